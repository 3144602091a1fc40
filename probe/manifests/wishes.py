"""What the user wants of ``inject``, as values."""

from __future__ import annotations

import enum

import msgspec

from probe.facts import wiring
from probe.facts.wiring import Amounts
from probe.manifests.users import User


class GateProbe(enum.Enum):
    """A gate, by the name of the probe on Triton's container that it answers."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"

    @property
    def key(self) -> str:
        """The container's field."""
        return f"{self.value}Probe"

    @property
    def timing(self) -> wiring.ProbeTiming:
        """How the kubelet asks."""
        return {
            GateProbe.STARTUP: wiring.STARTUP,
            GateProbe.LIVENESS: wiring.LIVENESS,
            GateProbe.READINESS: wiring.READINESS,
        }[self]


class Existing(enum.Enum):
    """What to do with a probe that Triton's container has already."""

    KEEP = "keep"
    REPLACE = "replace"


class Native(enum.Enum):
    """Whether the sidecar is an init container that is restarted always; ``AUTO`` goes by the Kubernetes release."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Nvml(enum.Enum):
    """How the sidecar gets the driver's library; ``CLASS`` is ``ENV`` with a runtime class for the pod."""

    NONE = "none"
    ENV = "env"
    CLASS = "runtime-class"


class Wishes(msgspec.Struct, frozen=True):
    """Options of a run; the defaults are those of the command.

    ``kubernetes`` is the release as two numbers, ``shm`` a size as a manifest spells it, or None for no volume.
    """

    image: str = wiring.IMAGE
    container: str | None = None
    gates: tuple[GateProbe, ...] = ()
    existing: Existing = Existing.KEEP
    native: Native = Native.AUTO
    kubernetes: tuple[int, int] | None = None
    knative: bool = False
    shm: str | None = wiring.SHM_SIZE
    port: int = wiring.PORT
    user: User | None = None
    nvml: Nvml = Nvml.NONE
    requests: Amounts | None = None
    limits: Amounts | None = None
