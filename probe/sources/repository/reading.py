"""From the paths that were given to the models that one Triton would find there."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator

from probe.facts.repository import (
    Deployment,
    RepositoryModel,
    RepositoryReading,
    Unreadable,
    VersionFolder,
    WrittenConfig,
)
from probe.sources.repository.configs import ConfigError, parse
from probe.sources.repository.files import (
    FileError,
    files_in,
    folders_in,
    read_file,
    reason,
    size_below,
    sources_below,
)

CONFIG = "config.pbtxt"
_VARIANTS, _SUFFIX = "configs", ".pbtxt"
_EXPECTED = "expected a model repository, a model's folder, or a config.pbtxt"
_DEEPEST = 12
_MOST_FOLDERS = 20_000
"""Looked through for repositories below a path: a path above all of a machine's files is a slip."""
_DEVICE_WORDS = (b"device_id", b"instance_kind", b"CUDA_VISIBLE_DEVICES")
"""A model that speaks of none of these leaves the GPU to its framework, which takes the first."""
_MOST_GPUS = 1 << 16
_MOST_DIGITS = 18
"""What a version, a signed number of 64 bits, surely has room for."""


def read_repositories(paths: Iterable[str], config_name: str = "") -> RepositoryReading:
    """Read everything below the paths; what can not be read is said, and the rest is read all the same.

    Repositories, models and files that are given by name go to one Triton together; repositories that
    are found further down, below a path that is none itself, to one each.  ``config_name`` is Triton's
    ``--model-config-name``: without one, every file of a ``configs`` folder is read beside ``config.pbtxt``.
    """
    return _Reader(config_name).read(tuple(dict.fromkeys(paths)))


class _Reader:
    def __init__(self, config_name: str) -> None:
        self._config_name = config_name
        self._unreadable: dict[Unreadable, None] = {}
        """In order, and each once."""
        self._found: list[Deployment] = []
        self._seen: set[tuple[int, int]] = set()

    def read(self, paths: tuple[str, ...]) -> RepositoryReading:
        """What lies at the paths."""
        given: dict[tuple[str, str], RepositoryModel] = {}
        beside: set[str] = set()
        for path in paths:
            for model, names in self._given(path):
                # The same place by two names is one model, and two places are two.
                given.setdefault((os.path.realpath(model.place), model.variant), model)
                beside |= names
        together = (Deployment(paths, tuple(given.values()), frozenset(beside)),) if given else ()
        return RepositoryReading((*together, *self._found), tuple(self._unreadable))

    def _given(self, path: str) -> Iterator[tuple[RepositoryModel, set[str]]]:
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            words = reason(error) if isinstance(error, OSError) else str(error)
            self._fail(path, f"{words}: {_EXPECTED}")
            return
        if stat.S_ISDIR(mode):
            yield from self._folder(path)
        else:
            yield from self._file(path)

    def _folder(self, path: str) -> Iterator[tuple[RepositoryModel, set[str]]]:
        if _is_model(path):
            names = set(_quietly(os.path.dirname(os.path.abspath(path))))
            yield from ((each, names) for each in self._models(path))
            return
        before = len(self._unreadable) + len(self._found)
        models = self._repository(path, 0)
        if not models and before == len(self._unreadable) + len(self._found):
            self._fail(path, f"found no model in it, {_EXPECTED}")
        yield from ((each, set()) for each in models)

    def _repository(self, path: str, depth: int) -> list[RepositoryModel]:
        """The models of a repository; none where it is not one, and what lies below it is found instead."""
        try:
            names = folders_in(path)
        except FileError as error:
            self._fail(path, str(error))
            return []
        children = [(os.path.join(path, name), name) for name in names]
        models: list[RepositoryModel] = []
        others: list[RepositoryModel] = []
        for child, name in children:
            if _is_model(child):
                models += self._models(child)
            elif not self._below(child, name, depth):
                others += self._models(child)
        # Triton takes every folder of a repository for a model. Where no model has its files, this is a tree of
        # sources, and what else lies in it is not meant to be one.
        laid_out = any(each.versions for each in models)
        return sorted((*models, *others), key=lambda each: each.name) if laid_out else models

    def _below(self, path: str, name: str, depth: int) -> bool:
        """Whether there are repositories further down; they are kept."""
        if name.startswith(".") or depth >= _DEEPEST or os.path.islink(path):
            return False
        try:
            found = os.stat(path)
        except OSError:
            return False
        place = (found.st_dev, found.st_ino)
        if place in self._seen or len(self._seen) >= _MOST_FOLDERS:
            return False
        self._seen.add(place)
        before = len(self._found)
        models = self._repository(path, depth + 1)
        if models:
            self._found.append(Deployment((path,), tuple(models)))
        return len(self._found) > before

    def _file(self, path: str) -> Iterator[tuple[RepositoryModel, set[str]]]:
        above, file = os.path.split(path)
        variant = file.removesuffix(_SUFFIX) if os.path.basename(above) == _VARIANTS else ""
        folder = (os.path.dirname(above) if variant else above) or "."
        versions = _numbers(folder)
        lone = not versions or (file != CONFIG and not variant)
        names = set() if lone else set(_quietly(os.path.dirname(os.path.abspath(folder))))
        yield self._model(folder, path, variant, lone=lone), names

    def _models(self, folder: str) -> list[RepositoryModel]:
        """A model's folder under each of its configurations, or under the one that was asked for."""
        main = os.path.join(folder, CONFIG)
        listed = self._lists(folder)
        others = os.path.join(folder, _VARIANTS)
        variants = [each for each in files_in(others) if each.endswith(_SUFFIX)]
        if self._config_name:
            chosen = f"{self._config_name}{_SUFFIX}"
            if chosen in variants:
                return [self._model(folder, os.path.join(others, chosen), "")]
            variants = []
        # What a folder hides that can be listed is no folder without a file; reading it says why.
        there = _hides(main) if listed else os.path.lexists(main)
        models = [self._model(folder, main if there else None, "")]
        models += [
            self._model(folder, os.path.join(others, each), each.removesuffix(_SUFFIX)) for each in variants
        ]
        return models

    def _model(self, folder: str, file: str | None, variant: str, *, lone: bool = False) -> RepositoryModel:
        config = self._config(file) if file is not None else None
        numbers = [] if lone else _numbers(folder)
        plain = [each for each in numbers if _plain(each)]
        listed = [lone or self._lists(folder), *(self._lists(os.path.join(folder, each)) for each in plain)]
        return RepositoryModel(
            name=os.path.basename(os.path.abspath(folder)),
            folder=folder,
            config_file=file,
            config=config,
            variant=variant,
            versions=tuple(_version(folder, each) for each in plain),
            ignored=tuple(each for each in numbers if not _plain(each)),
            lone=lone,
            listed=all(listed),
        )

    def _lists(self, folder: str) -> bool:
        """Whether a folder can be listed; where not, it is said."""
        try:
            folders_in(folder)
        except FileError as error:
            self._fail(folder, str(error))
            return False
        return True

    def _config(self, file: str) -> WrittenConfig | None:
        try:
            return parse(read_file(file))
        except FileError as error:
            self._fail(file, str(error))
        except ConfigError as error:
            self._unreadable[Unreadable(file, str(error), error.line, error.column)] = None
        return None

    def _fail(self, path: str, message: str) -> None:
        self._unreadable[Unreadable(path, message)] = None


def _is_model(folder: str) -> bool:
    """Whether a folder is a model's: it has a configuration, or a version with a model's file in it."""
    if os.path.lexists(os.path.join(folder, CONFIG)):
        return True
    numbers = _numbers(folder)
    if numbers and any(each.endswith(_SUFFIX) for each in files_in(os.path.join(folder, _VARIANTS))):
        return True
    for number in numbers:
        version = os.path.join(folder, number)
        if any(each.startswith("model.") for each in (*files_in(version), *_quietly(version))):
            return True
    return False


def _hides(file: str) -> bool:
    """Whether a file is there, or may be: only its folder's word that it is not counts."""
    try:
        os.lstat(file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _numbers(folder: str) -> list[str]:
    return [
        each for each in _quietly(folder) if each.isascii() and each.isdecimal() and len(each) <= _MOST_DIGITS
    ]


def _plain(number: str) -> bool:
    return number == "0" or not number.startswith("0")


def _quietly(folder: str) -> list[str]:
    try:
        return folders_in(folder)
    except FileError:
        return []


def _version(folder: str, number: str) -> VersionFolder:
    path = os.path.join(folder, number)
    sources = sources_below(path)
    asks = any(word in source for source in sources for word in _DEVICE_WORDS) if sources else None
    return VersionFolder(
        int(number), (*files_in(path), *_quietly(path)), size_below(path), asks, _parallel(path)
    )


def _parallel(version: str) -> int:
    """Over how many GPUs a vLLM engine is spread: its tensor times its pipeline parallel size."""
    try:
        told = json.loads(read_file(os.path.join(version, "model.json")))
    except (FileError, ValueError, RecursionError):
        return 1
    sizes = told if isinstance(told, dict) else {}
    return _size(sizes.get("tensor_parallel_size")) * _size(sizes.get("pipeline_parallel_size"))


def _size(told: object) -> int:
    text = str(told)[: _MOST_DIGITS + 1] if isinstance(told, int | str) else ""
    if not text.isascii() or not text.isdecimal() or len(text) > _MOST_DIGITS:
        return 1
    return min(max(int(text), 1), _MOST_GPUS)
