"""What a stub's command line says, for every release that has stubs."""

from __future__ import annotations

from collections.abc import Sequence

from probe.facts.processes import StubArguments

_LEAST = 4
"""Arguments before the ipc handle that must be there: stub, path, region, and the sizes after it."""


def parse_stub_arguments(arguments: Sequence[str]) -> StubArguments | None:
    """The arguments of a stub process, or None for what is no stub's command line.

    Order (python_backend, ``stub_launcher.cc``): stub, model path, shm region, default size, growth
    size, parent pid, backend folder, ipc handle, name, and from 23.10 the runtime folder.  Releases up
    to 25.07 started the stub through a shell, which splits a path at its blanks: so it is read from the
    end, where the fields have one shape each.
    """
    words = list(arguments)
    while words and not words[-1]:
        words.pop()
    handle = _handle(words)
    if handle is None:
        return None
    for parent in range(handle - 2, _LEAST, -1):
        if all(words[index].isdecimal() for index in (parent - 2, parent - 1, parent)):
            return StubArguments(
                model_path=" ".join(words[1 : parent - 3]),
                shm_region=words[parent - 3],
                shm_default_bytes=int(words[parent - 2]),
                shm_growth_bytes=int(words[parent - 1]),
                parent_pid=int(words[parent]),
                name=words[handle + 1],
                runtime_dir=" ".join(words[handle + 2 :]),
            )
    return None


def _handle(words: Sequence[str]) -> int | None:
    # The ipc handle is a bare number followed by the name and, from 23.10, by the runtime folder
    # ("DEFAULT" or a path, which an old release's shell may have split).  The name follows at once, so
    # the last number with something behind it is the handle, unless that number is the name itself.
    numbers = [index for index, word in enumerate(words[:-1]) if word.isdecimal()]
    if not numbers:
        return None
    last = numbers[-1]
    before = numbers[-2] if len(numbers) > 1 else None
    named_by_number = before == last - 1 and len(words) - 1 > last
    return before if named_by_number and before is not None and _plausible(words, before) else last


def _plausible(words: Sequence[str], handle: int) -> bool:
    # The word before the handle is the backend folder, never a number.
    return handle > _LEAST and not words[handle - 1].isdecimal()
