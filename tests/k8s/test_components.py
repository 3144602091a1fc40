"""What do the components of ``k8s/`` make of a pod?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import yaml

from probe.facts import wiring
from testbed.manifests.kustomize import Kustomize
from testbed.manifests.overlays import Overlays, triton, workload
from testbed.manifests.schemas import RELEASES, complaints
from tests.k8s import wired

KINDS = ("Deployment", "StatefulSet", "DaemonSet")
STACKED = ("startup", "gate-readiness", "gate-liveness", "shm")
"""What may follow ``observe`` in any order, as may ``guaranteed``."""

# A pod with everything that a patch could trample on: a probe of another kind, a mount, volumes, neighbours.
BUSY: dict[str, Any] = {
    "initContainers": [{"name": "fetch", "image": "fetcher:1"}],
    "containers": [
        {
            "name": "triton",
            "image": "tritonserver:24.10-py3",
            "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 3},
            "readinessProbe": {"tcpSocket": {"port": 8000}},
            "resources": {
                "limits": {"memory": "8Gi", "nvidia.com/gpu": "1"},
                "requests": {"memory": "8Gi", "nvidia.com/gpu": "1"},
            },
            "volumeMounts": [
                {"name": "models", "mountPath": "/models"},
                {"name": "old-shm", "mountPath": "/dev/shm"},
            ],
        },
        {"name": "neighbour", "image": "neighbour:1", "env": [{"name": "A", "value": "1"}]},
    ],
    "volumes": [{"name": "models", "emptyDir": {}}, {"name": "old-shm", "emptyDir": {"medium": "Memory"}}],
}


def combinations() -> Iterator[tuple[str, ...]]:
    """Every set of components that stands on ``observe``, in the order of the README."""
    for chosen in itertools.product((False, True), repeat=len(STACKED)):
        gates = tuple(itertools.compress(STACKED, chosen))
        for nvml in (None, *wired.NVML):
            for native in ((), ("native-sidecar",)):
                yield ("observe", *gates, *((nvml,) if nvml else ()), *native)


def by_name(things: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Workloads by their names."""
    return {each["metadata"]["name"]: each for each in things if each["kind"] in KINDS}


def rendered(
    kustomize: Kustomize, overlays: Overlays, pod: dict[str, Any], *components: str
) -> dict[str, Any]:
    """The template of a Deployment's pod after these components."""
    folder = overlays.add("one", [workload(pod)], components)
    (thing,) = (each for each in kustomize.objects(folder) if each["kind"] == "Deployment")
    return dict(thing["spec"]["template"])


def test_each_combination_changes_what_it_says_and_nothing_else(
    kustomize: Kustomize, overlays: Overlays
) -> None:
    """In each kind of workload, in a bare pod and in a full one; and three releases of Kubernetes take it."""
    expected = {}
    for number, components in enumerate(combinations()):
        name, kind = f"triton-{number}", KINDS[number % 3]
        # A claim takes the place of a GPU that Triton asked for.
        pod = BUSY if "nvml/dra" in components or number // 3 % 2 else triton()
        thing = workload(pod, kind, name)
        # Each has a claim of that name, so each needs a namespace.
        overlays.add(name, [thing], components, **({"namespace": name} if "nvml/dra" in components else {}))
        expected[name] = (components, thing)

    found = by_name(kustomize.objects(overlays.together()))

    assert found.keys() == expected.keys()
    for name, (components, before) in expected.items():
        after = found[name]["spec"]["template"]
        assert wired.unordered(after) == wired.unordered(
            wired.template(before["spec"]["template"], components)
        ), components
        assert {**found[name]["spec"], "template": None} == {**before["spec"], "template": None}
        for release in RELEASES:
            if "nvml/dra" not in components or release == "1.37":
                assert complaints(found[name], release) is None, components


def test_the_order_between_observe_and_the_native_sidecar_is_free(
    kustomize: Kustomize, overlays: Overlays
) -> None:
    """Nobody has to remember one: each order of the gates makes the same pod."""
    free = (*STACKED, "guaranteed", "nvml/env")
    orders = [*(free[turn:] + free[:turn] for turn in range(len(free))), free[::-1]]
    for number, order in enumerate(orders):
        components = ("observe", *order, "native-sidecar")
        overlays.add(f"triton-{number}", [workload(BUSY, name=f"triton-{number}")], components)

    templates = [wired.unordered(each["spec"]["template"]) for each in kustomize.objects(overlays.together())]

    expected = wired.template(workload(BUSY)["spec"]["template"], ("observe", *free, "native-sidecar"))
    assert templates == [wired.unordered(expected)] * len(orders)


def test_observing_moves_no_gate(kustomize: Kustomize, overlays: Overlays) -> None:
    """Triton's container is as it was, and the sidecar's own state is asked of nothing but itself."""
    before, probe, neighbour = rendered(kustomize, overlays, BUSY, "observe")["spec"]["containers"]

    assert before == BUSY["containers"][0]
    assert neighbour == BUSY["containers"][1]
    assert {"readinessProbe", "startupProbe"} & probe.keys() == set()


def test_each_gate_asks_the_sidecar_by_number(kustomize: Kustomize, overlays: Overlays) -> None:
    """The kubelet looks up a name in the probed container alone; and no handler of an old probe is left."""
    asked = rendered(kustomize, overlays, BUSY, "observe", *wired.GATES)["spec"]["containers"][0]

    for field, timing in wired.GATES.values():
        assert asked[field]["httpGet"] == {"path": timing.path, "port": wiring.PORT}
        assert {"exec", "tcpSocket", "grpc"} & asked[field].keys() == set()


def test_no_back_off_of_the_sidecar_restarts_triton(kustomize: Kustomize, overlays: Overlays) -> None:
    """What is rendered waits longer than the kubelet's longest back-off, 300 s."""
    asked = rendered(kustomize, overlays, triton(), "observe", "gate-liveness")["spec"]["containers"][0]

    assert asked["livenessProbe"]["periodSeconds"] * asked["livenessProbe"]["failureThreshold"] > 300


def test_the_size_of_shm_can_be_changed_as_its_comment_says(kustomize: Kustomize, overlays: Overlays) -> None:
    """The patch of the component's own comment changes the size and leaves the rest."""
    text = (overlays.folder / "components/shm/kustomization.yaml").read_text("utf-8")
    lines = text[text.index("#   patches:") :].partition("\napiVersion")[0].splitlines()
    patch = yaml.safe_load("\n".join(line.removeprefix("#   ") for line in lines))
    folder = overlays.add("one", [workload(triton())], ["shm"], **patch)

    (thing,) = kustomize.objects(folder)

    size = {"medium": "Memory", "sizeLimit": "2Gi"}
    assert thing["spec"]["template"]["spec"]["volumes"] == [{"name": "triton-probe-shm", "emptyDir": size}]
