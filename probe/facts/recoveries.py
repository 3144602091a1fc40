"""What a GPU's recovery action asks for (``nvmlDeviceGpuRecoveryAction_t``, NVML's field 230, from driver 565 on).

NVIDIA calls an action of ``none`` "the GPU can be used again at once, by a new process".
"""

from __future__ import annotations

import msgspec

NONE = "none"
RESET_REQUIRED = "reset_required"
"""Stands for NVML's error RESET_REQUIRED where no recovery action says more."""


class Recovery(msgspec.Struct, frozen=True):
    """What is asked for, in words that follow "NVML asks", and what to do.

    ``peers``: what is at fault is the traffic between GPUs; work on this GPU alone goes on.
    """

    asks: str
    remedy: str
    peers: bool = False


_RESET = (
    "Restarting Triton does not help. Drain the node, end everything that runs on the GPU, and reset it (nvidia-smi "
    "--gpu-reset); let the pod run elsewhere meanwhile."
)
_REBOOT = (
    "Restarting Triton does not help. Drain the node and reboot it; let the pod run elsewhere meanwhile."
)
_PEERS = (
    "Models on one GPU go on. Stop work that spans GPUs, look at NVLink and the fabric manager in the node's log, and "
    "have the node drained when it suits."
)

_KNOWN = {
    RESET_REQUIRED: Recovery("that it is reset", _RESET),
    "gpu_reset": Recovery("that it is reset", _RESET),
    "node_reboot": Recovery("that the node is rebooted", _REBOOT),
    "drain_p2p": Recovery("that traffic between GPUs over it ends", _PEERS, peers=True),
    "drain_and_reset": Recovery(
        "that it takes no new work, and is reset when what runs has ended",
        "What runs on it may end in peace: drain the node, then reset the GPU (nvidia-smi --gpu-reset). Restarting "
        "Triton would only put new work on it.",
    ),
    "recover_imex_domain": Recovery(
        "that its IMEX domain (memory shared over NVLink between nodes) is recovered",
        "Models on one node go on. Look at nvidia-imex on the nodes of this NVLink domain, and restart it there.",
        peers=True,
    ),
    "bus_reset": Recovery(
        "that its bus is reset",
        "Restarting Triton does not help. Drain the node and have the GPU's PCIe bus reset, or reboot; let the pod run "
        "elsewhere meanwhile.",
    ),
    "system_reboot": Recovery("that the whole system is rebooted", _REBOOT),
}


def recovery(action: str) -> Recovery:
    """What this action asks for; one that is newer than this release is taken for a reset."""
    return _KNOWN.get(action) or Recovery(f"a recovery that is not known to this release ({action})", _RESET)
