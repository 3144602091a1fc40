"""Stubs' command lines, as each release writes them.

Sources: python_backend's ``stub_launcher.cc``, ``python_be.cc`` and ``pb_utils.cc`` on the branches of the
releases named here; a release is Triton's own version, as ``ServerMetadata`` tells it.
"""

from __future__ import annotations

import uuid

Release = tuple[int, int]

RUNTIME_FOLDER: Release = (2, 39)
"""23.10: a tenth argument, the runtime folder; and the region is named for its backend."""
SMALL_REGIONS: Release = (2, 38)
"""23.09: regions of 1 MiB instead of 64."""
REGIONS_BY_UUID: Release = (2, 45)
"""24.04: regions are no longer numbered."""
NO_SHELL: Release = (2, 60)
"""25.08: started without a shell, which split the line at blanks."""

STUB_FILE = "triton_python_backend_stub"
_MEBIBYTE = 1 << 20
_HANDLE = 336


def command_line(  # one keyword for each thing that the line says
    release: Release,
    *,
    name: str,
    model_path: str,
    parent_pid: int,
    region: str = "",
    number: int = 1,
    backend: str = "python",
    folder: str = "/opt/tritonserver/backends",
) -> list[str]:
    """The words of a stub's command line; ``number`` counts the regions of old releases."""
    size = _MEBIBYTE if release >= SMALL_REGIONS else 64 * _MEBIBYTE
    words = [
        f"{folder}/python/{STUB_FILE}",
        model_path,
        region or _region(release, backend, number),
        *(str(size), str(size), str(parent_pid)),
        f"{folder}/python",
        str(_HANDLE),
        name,
    ]
    if release >= RUNTIME_FOLDER:
        words.append("DEFAULT" if backend == "python" else f"{folder}/{backend}")
    return words if release >= NO_SHELL else " ".join(words).split()


def _region(release: Release, backend: str, number: int) -> str:
    prefix = f"triton_{backend}_backend_shm_region_" if release >= RUNTIME_FOLDER else None
    prefix = prefix or "triton_python_backend_shm_region_"
    return f"{prefix}{uuid.uuid4() if release >= REGIONS_BY_UUID else number}"
