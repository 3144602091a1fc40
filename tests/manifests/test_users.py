"""Does the sidecar run as whom the kernel shows Triton's processes?"""

from __future__ import annotations

from typing import Any

import pytest

from probe.manifests.sidecar import plain
from probe.manifests.users import User, identity


def made(pod: dict[str, Any], container: dict[str, Any], told: User | None = None) -> dict[str, Any]:
    """The sidecar's securityContext."""
    found = plain(identity({"securityContext": pod}, {"securityContext": container}, told).security)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("pod", "container", "user", "group"),
    [
        ({}, {"runAsUser": 1000}, 1000, 1000),
        ({}, {"runAsUser": 1000, "runAsGroup": 7}, 1000, 7),
        ({"runAsUser": 5, "runAsGroup": 6}, {}, 5, 6),
        ({"runAsUser": 5, "runAsGroup": 6}, {"runAsUser": 1000}, 1000, 6),
        ({}, {"runAsUser": 65534}, 65534, 0),
        ({"runAsNonRoot": True}, {}, 1000, 1000),
        ({"fsGroup": 3}, {"runAsUser": 9}, 9, 0),
    ],
)
def test_tritons_user_and_group_are_taken(
    pod: dict[str, Any], container: dict[str, Any], user: int, group: int
) -> None:
    """The container's before the pod's; a group that nobody wrote is that of the user in the image."""
    said = made(pod, container)

    assert (said["runAsUser"], said["runAsGroup"]) == (user, group)
    assert said["capabilities"] == {"drop": ["ALL"]}
    assert said["runAsNonRoot"] is True


def test_beside_root_it_is_root_with_the_same_capabilities() -> None:
    """Without a user written, Triton's image runs as root; fewer capabilities than Triton has show nothing."""
    said = made({}, {})

    assert (said["runAsUser"], said["runAsGroup"], said["runAsNonRoot"]) == (0, 0, False)
    assert "capabilities" not in said
    assert said["readOnlyRootFilesystem"] is True
    assert said["allowPrivilegeEscalation"] is False
    assert made({}, {"capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}})["capabilities"] == {
        "add": ["IPC_LOCK"],
        "drop": ["ALL"],
    }


def test_what_kubernetes_refuses_together_is_not_written() -> None:
    """It takes CAP_SYS_ADMIN, spelled so, for privilege, which may not be forbidden to grow beside it."""
    said = made({}, {"capabilities": {"add": ["CAP_SYS_ADMIN"]}})

    assert said["capabilities"] == {"add": ["CAP_SYS_ADMIN"]}
    assert "allowPrivilegeEscalation" not in said


def test_a_privileged_triton_does_not_make_the_probe_privileged() -> None:
    """It sees less then, and the cure is to take the privilege from Triton."""
    found = identity({}, {"securityContext": {"privileged": True}}, None)

    assert "privileged" not in plain(found.security)
    assert "privileged: true" in found.cure


def test_the_users_word_goes_before_the_manifests() -> None:
    """A uid alone, a uid with a gid, or none of both, where the platform chooses."""
    assert made({}, {"runAsUser": 1000}, User(7, 8))["runAsGroup"] == 8
    assert made({}, {}, User(1000))["runAsGroup"] == 1000
    assert made({}, {}, User(0))["runAsNonRoot"] is False
    assert "runAsUser" not in made({}, {"runAsUser": 1000}, User())


def test_what_was_chosen_is_explained() -> None:
    """In words for stderr, with the better way where there is one."""
    root = identity({}, {}, None)

    assert "uid 0: no runAsUser is set" in root.why
    assert "runAsUser: 1000 and runAsGroup: 1000" in root.cure
    assert identity({}, {"securityContext": {"runAsUser": 1000}}, None).cure == ""
