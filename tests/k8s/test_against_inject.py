"""Do `k8s/` and ``inject`` make the same pod?"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from probe.cli import group
from probe.facts import wiring
from testbed.manifests.kustomize import Kustomize
from testbed.manifests.overlays import Overlays, workload
from tests.k8s import wired

_GATES = {"startup": "startup", "gate-readiness": "readiness", "gate-liveness": "liveness"}
"""Component, and the gate's name in ``inject``."""
AS_THE_SIDECAR: dict[str, Any] = {
    "containers": [
        {
            "name": "triton",
            "image": "tritonserver:24.10-py3",
            "resources": {"requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"memory": "8Gi"}},
            "securityContext": wired.builtins(wiring.SECURITY),
        }
    ]
}
"""A Triton whose user and capabilities ``inject`` finds to be those of the components."""
GUARANTEED: dict[str, Any] = {
    "containers": [
        {
            **AS_THE_SIDECAR["containers"][0],
            "resources": {
                "requests": {"cpu": "4", "memory": "8Gi"},
                "limits": {"cpu": "4", "memory": "8Gi"},
            },
        }
    ]
}


def injected(thing: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """The template after ``inject``."""
    result = CliRunner().invoke(group, ["inject", *arguments], input=yaml.safe_dump(thing))
    assert result.exit_code == 0, result.stderr
    read: dict[str, Any] = yaml.safe_load(result.stdout)["spec"]["template"]
    return read


@pytest.mark.parametrize("native", [(), ("native-sidecar",)], ids=["plain", "native"])
def test_both_make_the_same_pod(kustomize: Kustomize, overlays: Overlays, native: tuple[str, ...]) -> None:
    """With every choice of gates, with ``/dev/shm`` and without: whoever changes over changes nothing."""
    expected = {}
    for number, chosen in enumerate(itertools.product((False, True), repeat=len(_GATES) + 1)):
        *gates, shm = chosen
        components = tuple(itertools.compress(_GATES, gates))
        thing = workload(AS_THE_SIDECAR, name=f"triton-{number}")
        overlays.add(
            f"triton-{number}", [thing], ("observe", *components, *(["shm"] if shm else []), *native)
        )
        options = ["--native", "always" if native else "never", "--shm", wiring.SHM_SIZE if shm else "none"]
        if components:
            options += ["--gates", ",".join(_GATES[each] for each in components)]
        expected[f"triton-{number}"] = wired.unordered(injected(thing, *options))

    rendered = {
        each["metadata"]["name"]: wired.unordered(each["spec"]["template"])
        for each in kustomize.objects(overlays.together())
    }

    assert rendered == expected


def test_both_keep_a_guaranteed_pod_one(kustomize: Kustomize, overlays: Overlays) -> None:
    """By a component there, by itself here."""
    thing = workload(GUARANTEED)
    (rendered,) = kustomize.objects(overlays.add("one", [thing], ("observe", "guaranteed")))

    assert rendered["spec"]["template"] == injected(thing, "--native", "never", "--shm", "none")
