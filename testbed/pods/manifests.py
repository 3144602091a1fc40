"""What a remedy says to write into a manifest, taken out of its sentence as a reader would."""

from __future__ import annotations

import re

from probe.kits.quantities import parse_size
from testbed.pods.resources import Resources

_SIZE_LIMIT = re.compile(r"emptyDir:? ?\{[^}]*sizeLimit: ([0-9]+[A-Za-z]*)")


def resources_in(remedy: str) -> Resources:
    """The first ``resources: {…}`` in a text; raises ValueError where there is none."""
    begin = remedy.index("resources: {")
    depth = 0
    for place, letter in enumerate(remedy[begin:], begin):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "}" and not depth:
            return Resources.read(remedy[begin : place + 1])
    raise ValueError(f"braces do not close: {remedy[begin:]}")


def shm_in(remedy: str) -> int:
    """The size of the first ``emptyDir`` in a text, in bytes; raises ValueError where there is none."""
    found = _SIZE_LIMIT.search(remedy)
    if found is None:
        raise ValueError(f"no emptyDir with a sizeLimit: {remedy}")
    return parse_size(found[1])
