"""What a stub's command line says, for every release that has stubs."""

from __future__ import annotations

from collections.abc import Sequence

from probe.facts.processes import StubArguments

_SIZES = 3
"""Numbers in a row after the region: default size, growth size, the parent's pid."""
_DIGITS_AT_MOST = 18
_WORDS_AT_MOST = 1000
"""More than any real line has, however it was split; garbage is not searched at length."""
_DEFAULT = "DEFAULT"


def parse_stub_arguments(arguments: Sequence[str]) -> StubArguments | None:
    """The arguments of a stub process, or None for what is no stub's command line.

    Order (python_backend, ``stub_launcher.cc``): stub, model path, shm region, default size, growth
    size, parent pid, backend folder, ipc handle, name, and from 23.10 the runtime folder.  Releases up
    to 25.07 started the stub through a shell, which splits at blanks: so nothing is found by counting,
    but by the shapes that the fields have.
    """
    words = list(arguments)
    while words and not words[-1]:
        words.pop()
    if len(words) > _WORDS_AT_MOST:
        return None
    for parent in range(len(words) - 3, _SIZES + 1, -1):
        if not all(_number(word) for word in words[parent - 2 : parent + 1]) or _number(words[parent + 1]):
            continue
        handle = _handle(words, parent)
        if handle is not None:
            end = _end_of_name(words, handle)
            return StubArguments(
                model_path=" ".join(words[1 : parent - 3]),
                shm_region=words[parent - 3],
                shm_default_bytes=int(words[parent - 2]),
                shm_growth_bytes=int(words[parent - 1]),
                parent_pid=int(words[parent]),
                name=" ".join(words[handle + 1 : end]),
                runtime_dir=" ".join(words[end:]),
            )
    return None


def _handle(words: Sequence[str], parent: int) -> int | None:
    # A number in a folder's name, or a name that is a number, is no handle: what follows the handle is
    # one word of a name, and then nothing or the runtime folder.  Only a name that was split has more.
    numbers = [at for at in range(parent + 2, len(words) - 1) if _number(words[at])]
    whole = (at for at in numbers if _end_of_name(words, at) == at + 2)
    return next(whole, numbers[0] if numbers else None)


def _end_of_name(words: Sequence[str], handle: int) -> int:
    for at in range(handle + 2, len(words)):
        if words[at].startswith("/") or (words[at] == _DEFAULT and at == len(words) - 1):
            return at
    return len(words)


def _number(word: str) -> bool:
    return word.isdecimal() and len(word) <= _DIGITS_AT_MOST
