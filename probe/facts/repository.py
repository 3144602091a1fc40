"""A model repository as it lies on disk: what its ``config.pbtxt`` files say, before any Triton resolved it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from probe.facts.models import InstanceKind


class WrittenGroup(msgspec.Struct, frozen=True):
    """One ``instance_group`` as its author wrote it; what is not written is empty, 0, or ``KIND_AUTO``.

    ``line`` is where it begins, ``kind_line`` where its kind stands (or where it begins); both from 1.
    A ``passive`` one gets no requests.
    """

    name: str
    kind: InstanceKind
    count: int
    gpus: tuple[int, ...]
    line: int
    kind_line: int
    passive: bool = False


class WrittenStep(msgspec.Struct, frozen=True):
    """One step of an ensemble; ``version`` is None for the latest."""

    model: str
    version: int | None
    line: int


class WrittenParameter(msgspec.Struct, frozen=True):
    """One of ``parameters``, by its ``string_value``."""

    key: str
    value: str
    line: int


class WrittenAccelerator(msgspec.Struct, frozen=True):
    """One of ``optimization.execution_accelerators``, for instances of this kind."""

    name: str
    kind: InstanceKind
    line: int


class UnknownName(msgspec.Struct, frozen=True):
    """A field, or a value of an enumeration, that the schema at hand does not have.

    ``path`` is the field's dotted path, ``value`` the enumeration's word or empty, ``nearest`` the known
    name that was most likely meant, if any.
    """

    path: str
    value: str
    nearest: str
    line: int
    column: int


class VersionPolicy(msgspec.Struct, frozen=True):
    """Which of the versions that are there are loaded: the ``latest`` few, these, or (neither) all."""

    latest: int | None = 1
    specific: tuple[int, ...] | None = None
    line: int = 0
    """Where it is written, 0 where it is not."""

    def kept(self, there: Iterable[int]) -> tuple[int, ...]:
        """Of these versions those that Triton loads (core, ``model_lifecycle.cc``, ``VersionsToLoad``)."""
        ordered = sorted(there, reverse=True)
        if self.specific is not None:
            return tuple(each for each in ordered if each in self.specific)
        return tuple(ordered if self.latest is None else ordered[: self.latest])


class WrittenConfig(msgspec.Struct, frozen=True):
    """What one configuration file says; lines are counted from 1, and 0 where nothing is written."""

    name: str = ""
    name_line: int = 0
    backend: str = ""
    platform: str = ""
    default_file: str = ""
    ensemble: bool = False
    groups: tuple[WrittenGroup, ...] = ()
    steps: tuple[WrittenStep, ...] = ()
    parameters: tuple[WrittenParameter, ...] = ()
    accelerators: tuple[WrittenAccelerator, ...] = ()
    policy: VersionPolicy = VersionPolicy()
    unknown: tuple[UnknownName, ...] = ()

    def parameter(self, key: str) -> WrittenParameter | None:
        """The parameter of this key, or None."""
        return next((each for each in self.parameters if each.key == key), None)


class VersionFolder(msgspec.Struct, frozen=True):
    """One version of a model: the files right in its folder, and the bytes of all below it.

    ``asks_device``: whether any of its Python files speaks of the device that Triton gave the instance;
    None where there is none to read.  ``parallel`` is over how many GPUs its vLLM engine is spread
    (``model.json``), 1 where it is not.
    """

    version: int
    files: tuple[str, ...] = ()
    bytes: int = 0
    asks_device: bool | None = None
    parallel: int = 1


class RepositoryModel(msgspec.Struct, frozen=True):
    """One folder of a repository under one of its configurations.

    ``config_file`` is None where there is no file, and ``config`` None where there is none or it can not
    be read.  ``variant`` names a file of its ``configs`` folder (``--model-config-name``), empty for
    ``config.pbtxt``.  ``lone`` is a file that was given by itself and lies in no model's folder.  ``listed``
    is false where its folder, or one of its versions', can not be listed: then what is not there is not known.
    """

    name: str
    folder: str
    config_file: str | None = None
    config: WrittenConfig | None = None
    variant: str = ""
    versions: tuple[VersionFolder, ...] = ()
    ignored: tuple[str, ...] = ()
    """Folders that look like versions and that Triton passes over, for the zeros in front."""
    lone: bool = False
    listed: bool = True

    @property
    def readable(self) -> bool:
        """Whether it is known what it says: a model without a file says nothing, and that is known."""
        return self.config is not None or (self.config_file is None and self.listed)

    @property
    def empty(self) -> bool:
        """Whether the folder has neither a configuration nor a version, as no model's has."""
        return self.config_file is None and not self.versions and not self.ignored

    @property
    def place(self) -> str:
        """The file that a finding on it is about, or its folder where there is none."""
        return self.config_file if self.config_file is not None else self.folder

    @property
    def said(self) -> WrittenConfig:
        """What it says; nothing where it has no file."""
        return self.config if self.config is not None else WrittenConfig()


class Deployment(msgspec.Struct, frozen=True):
    """What one Triton is given: the models of its repositories, and the names of all that lie beside them."""

    paths: tuple[str, ...]
    models: tuple[RepositoryModel, ...]
    beside: frozenset[str] = frozenset()


class Unreadable(msgspec.Struct, frozen=True):
    """What could not be read, and what was expected; line and column where there are any."""

    path: str
    message: str
    line: int | None = None
    column: int | None = None


class RepositoryReading(msgspec.Struct, frozen=True):
    """What one look at the given paths brought."""

    deployments: tuple[Deployment, ...]
    unreadable: tuple[Unreadable, ...] = ()
