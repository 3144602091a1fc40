"""What the driver's Xid codes mean, by class, and what helps.

Classes follow the actions in NVIDIA's Xid catalogue (docs.nvidia.com, "Analyzing the Xid catalog", as of 2025-10).
It and NVIDIA's Kubernetes device plugin (``internal/rm/health.go``) contradict each other on code 109, a context
switch that timed out: the catalogue asks for a reset, the plugin leaves the GPU in service because a program may
cause it.  Here it is the application's.  A kernel that runs for too long on a time-sliced GPU is enough to cause
it; a ready gate that closes for it would mostly be wrong; and where the GPU does need a reset, drivers from 565 on
say so in the recovery action, and models that no longer answer have findings of their own.
"""

from __future__ import annotations

import enum

import msgspec


class XidClass(enum.StrEnum):
    """What an Xid asks for."""

    APPLICATION = "application"
    """A program erred, or an error was contained to it: it has to begin anew, and the GPU is well."""
    RESET = "reset"
    """The GPU has to be reset."""
    REBOOT = "reboot"
    """The node, or the virtual machine, has to be started anew."""
    MECHANICAL = "mechanical"
    """Somebody has to look at cables and power."""
    INFORMATIONAL = "informational"
    """Nothing has to be done."""
    FOLLOW = "follow"
    """It says nothing by itself: other Xids, or the GPU's recovery action, tell what to do."""
    UNKNOWN = "unknown"
    """No code that this release knows."""

    @property
    def hardware(self) -> bool:
        """Whether the GPU itself, and not only a program on it, is at fault."""
        return self in (XidClass.RESET, XidClass.REBOOT, XidClass.MECHANICAL)


class XidMeaning(msgspec.Struct, frozen=True):
    """One code: its class, and what happened, in words that follow "Xid N, …"; empty where only the class is known."""

    kind: XidClass
    words: str = ""

    @property
    def remedy(self) -> str:
        """What to do, in the reader's terms."""
        return _REMEDIES[self.kind]


_REMEDIES = {
    XidClass.APPLICATION: (
        "Nothing is to be done to the GPU. The program that caused it must begin anew: where a model of this Triton "
        "fails now, reload it, or restart the Triton container where it runs inside tritonserver. Where it comes "
        "again, look for the fault in the model's kernels."
    ),
    XidClass.RESET: (
        "Restarting Triton does not help: drain the node and reset the GPU (nvidia-smi --gpu-reset, once nothing runs "
        "on it) or reboot; let the pod run elsewhere meanwhile."
    ),
    XidClass.REBOOT: (
        "Restarting Triton does not help: drain the node and reboot it (a virtual machine: start it anew); let the "
        "pod run elsewhere meanwhile. Where it comes again, have the GPU replaced."
    ),
    XidClass.MECHANICAL: (
        "Restarting Triton does not help: have the GPU's power cables and its seat in the node checked; let the pod "
        "run elsewhere meanwhile."
    ),
    XidClass.INFORMATIONAL: "Nothing is to be done.",
    XidClass.FOLLOW: (
        "Follow the other Xids of this GPU and its recovery action; without any, nothing is to be done unless it "
        "comes again."
    ),
    XidClass.UNKNOWN: (
        "Look the code up in NVIDIA's Xid catalogue, and follow the GPU's recovery action where NVML tells one."
    ),
}

_COPY = "a copy engine failed a copy"
_VIDEO = "a video or image engine erred"
_NVLINK = "an NVLink connection erred"
_CODES: dict[XidClass, dict[str, tuple[int, ...]]] = {
    XidClass.APPLICATION: {
        "a program's work stopped the GPU": (8,),
        "a program sent invalid commands": (11, 25, 32, 69, 80),
        "a kernel faulted (an illegal address or instruction, an assertion)": (13,),
        "a kernel reached for memory that is not its own": (31,),
        _COPY: (39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136)),
        _VIDEO: (60, 68, 82, 83, 84, 86, 88, 89, *range(96, 106), 139),
        "an uncorrectable memory error was contained to the programs that met it": (94,),
        "a switch between programs took too long": (109,),
    },
    XidClass.RESET: {
        "the GPU stopped processing": (46,),
        "the GPU's own controller halted": (62,),
        "a faulty row of memory could not be set aside": (64,),
        "an uncorrectable memory error was not contained": (95,),
        "the GPU's security engine faulted": (110,),
        "the GPU's system processor (GSP) does not answer": (119,),
        "the GPU's system processor (GSP) failed": (120,),
        "a memory error could not be recovered": (140,),
        "the GPU could not be initialised": (143,),
        "": (136, 155, 156, 158),
    },
    XidClass.REBOOT: {
        "the GPU fell off the bus": (79,),
        "the virtual machine's key for the GPU has to be renewed": (151,),
    },
    XidClass.MECHANICAL: {"auxiliary power is not connected or not enough": (54,)},
    XidClass.INFORMATIONAL: {
        "a program's channel was reset": (43,),
        "a faulty row of memory will be set aside with the next reset": (63,),
        "corrected memory errors are frequent": (92,),
        "": (37, 38, 44, 66, 67, 93, 106, 107, 121, 137, 141, 152, 153, 157, 160, 161),
    },
    XidClass.FOLLOW: {
        "work was removed from the GPU because its program ended or another error stopped it": (45,),
        "an uncorrectable memory error was found": (48, 171, 172),
        _NVLINK: (74, *range(144, 151)),
        "a virtual GPU could not be started, for want of matching software": (78,),
        "the GPU's recovery action changed": (154,),
        "less memory can be used than the GPU has": (168,),
    },
}

KNOWN: dict[int, XidMeaning] = {
    code: XidMeaning(kind, words)
    for kind, told in _CODES.items()
    for words, codes in told.items()
    for code in codes
}
"""Every code that NVIDIA's catalogue gives an action for."""

FELL_OFF_THE_BUS = 79
_NEVER_SEEN = XidMeaning(XidClass.UNKNOWN, "which is not known to this release")


def meaning(code: int) -> XidMeaning:
    """What a code means."""
    return KNOWN.get(code, _NEVER_SEEN)
