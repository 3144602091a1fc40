"""Which user, group and capabilities the sidecar needs to see Triton's processes.

The kernel shows another container's cgroup, ``/dev/shm`` and exit causes to whoever has the same uid and gid and
no capability less (``ptrace_may_access``).  A container's gid without ``runAsGroup`` is that of its user in the
image's ``/etc/passwd``: 1000 for ``triton-server`` in Triton's own images, 0 for root and for unknown uids.
"""

from __future__ import annotations

from typing import Any

import msgspec

from probe.facts.wiring import SECURITY, USER, Capabilities, SecurityContext
from probe.manifests.pods import mapping, words

_EVERY = "ALL"
_ADMIN = "CAP_SYS_ADMIN"
"""Kubernetes refuses a container with this and ``allowPrivilegeEscalation: false`` (``ValidateSecurityContext``)."""


class User(msgspec.Struct, frozen=True):
    """What the user says of uid and gid; without a uid none is written, and the platform chooses."""

    uid: int | None = None
    gid: int | None = None


class Identity(msgspec.Struct, frozen=True):
    """As whom the sidecar runs; ``why`` is for people, ``cure`` what would be better, if anything."""

    security: SecurityContext
    why: str
    cure: str = ""


def identity(pod: dict[str, Any], container: dict[str, Any], told: User | None) -> Identity:
    """The sidecar's ``securityContext`` beside this Triton; ``told`` is the user's word on uid and gid."""
    wide, own = mapping(pod.get("securityContext")), mapping(container.get("securityContext"))
    said = {**wide, **own}
    user, group = said.get("runAsUser"), said.get("runAsGroup")
    if told is not None:
        if told.uid is None:
            left = msgspec.structs.replace(SECURITY, run_as_user=None, run_as_group=None)
            return Identity(left, "the platform chooses uid and gid; they have to be Triton's")
        user, why = told.uid, f"uid {told.uid}, as --user says"
        group = told.gid if told.gid is not None else group if isinstance(group, int) else _group_of(user)
    elif isinstance(user, int):
        why = f"uid {user}, as Triton's runAsUser says"
        group = group if isinstance(group, int) else _group_of(user)
    elif said.get("runAsNonRoot") is True:
        user, why = (
            USER,
            f"uid {USER}, triton-server in Triton's images: runAsNonRoot is set and runAsUser is not",
        )
        group = group if isinstance(group, int) else USER
    else:
        return _root(
            own,
            group if isinstance(group, int) else 0,
            "uid 0: no runAsUser is set, and Triton's images run as root",
        )
    if user == 0:
        return _root(own, group, f"{why}, gid {group}")
    security = msgspec.structs.replace(SECURITY, run_as_user=user, run_as_group=group)
    return Identity(security, f"{why}, gid {group}")


def _group_of(user: int) -> int:
    return USER if user == USER else 0


def _root(own: dict[str, Any], group: int, why: str) -> Identity:
    """Root beside root, with the very capabilities that Triton's container has."""
    capabilities = mapping(own.get("capabilities"))
    kept = Capabilities(*(tuple(words(capabilities.get(which))) for which in ("add", "drop")))
    bare = _EVERY in kept.drop and not kept.add
    security = SecurityContext(
        run_as_user=0,
        run_as_group=group,
        run_as_non_root=False,
        allow_privilege_escalation=None if _ADMIN in kept.add else False,
        read_only_root_filesystem=True,
        capabilities=kept if kept != Capabilities() else None,
        seccomp_profile=SECURITY.seccomp_profile,
    )
    if own.get("privileged") is True:
        cure = (
            "Triton is privileged, and the sidecar is not made so: it can not see Triton's cgroup and /dev/shm. Take "
            "`privileged: true` out; Triton needs no privilege"
        )
    else:
        cure = (
            f"to run both without root, set runAsUser: {USER} and runAsGroup: {USER} in the securityContext of "
            "Triton's container, and run inject again; where the platform chooses the user (OpenShift), use --user none"
        )
    how = "drops all capabilities, as Triton does" if bare else "keeps the capabilities that Triton has"
    return Identity(
        security, f"{why}. It {how}, or the kernel would not show it Triton's cgroup and /dev/shm", cure
    )
