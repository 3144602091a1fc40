"""Asks the gates as a kubelet would, all the time: an answer that does not come is as wrong as a false one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Self

from bench.soak.diary import Diary
from probe.sandbox.daemon import OPEN, Daemon

_PATHS = ("/livez", "/readyz", "/startupz", "/healthz")
_EVERY = 1.0
_TIMEOUT = 5.0
_MOST_KEPT = 100


class Kubelet:
    """Asks from entering to leaving.  ``silences``: no answer within 5 s, or a /healthz that is not 200."""

    def __init__(self, daemon: Daemon, diary: Diary) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.silences = 0
        self.told: list[tuple[float, str, tuple[str, ...]]] = []
        self._daemon = daemon
        self._diary = diary
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(len(_PATHS) * _TIMEOUT)

    def _run(self) -> None:
        while not self._ended.wait(_EVERY):
            for path in _PATHS:
                at = time.time()
                answer = self._daemon.ask(path, seconds=_TIMEOUT)
                self.answers[path, answer.code] += 1
                if not answer or (path == "/healthz" and answer.code != OPEN):
                    self.silences += 1
                    if len(self.told) < _MOST_KEPT:
                        self.told.append(
                            (at, f"{path}: {answer.code or 'no answer'}", self._diary.before(at))
                        )
