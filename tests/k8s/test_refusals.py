"""Does kustomize stop where a component would do something else than it says?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.manifests.kustomize import Kustomize, RenderError
from testbed.manifests.overlays import K8S, Overlays, triton, workload
from tests.k8s import wired

NEED_TRITON = ("observe", "shm", *wired.GATES, "native-sidecar")
NEED_THE_SIDECAR = (
    *wired.GATES,
    "guaranteed",
    "nvml/env",
    "nvml/runtime-class",
    "nvml/volume-mount",
    "nvml/dra",
)
NO_TRITON = "/spec/template/spec/containers/0/name"
NO_SIDECAR = "/spec/template/spec/containers/1"


def refusal(kustomize: Kustomize, folder: Path) -> str:
    """What kustomize says when it stops."""
    with pytest.raises(RenderError) as caught:
        kustomize.text(folder)
    return str(caught.value)


def test_every_component_is_tested_here() -> None:
    """One that is added says what it needs, or that it needs nothing."""
    folders = {
        path.parent.relative_to(K8S / "components") for path in K8S.glob("components/**/kustomization.yaml")
    }

    assert {str(each) for each in folders} == {*NEED_TRITON, *NEED_THE_SIDECAR, "nvml/nri", "monitoring"}


@pytest.mark.parametrize("component", NEED_TRITON)
def test_a_triton_by_another_name_stops_it(kustomize: Kustomize, overlays: Overlays, component: str) -> None:
    """A merge by name would add a second container without an image, and say nothing."""
    before = () if component in ("observe", "shm") else ("observe",)
    folder = overlays.add("one", [workload(triton("server"))], (*before, component))

    assert NO_TRITON in refusal(kustomize, folder)


def test_a_triton_that_is_not_the_first_stops_it(kustomize: Kustomize, overlays: Overlays) -> None:
    """Its place is how the patches find it."""
    pod = {"containers": [{"name": "proxy", "image": "proxy:1"}, *triton()["containers"]]}
    folder = overlays.add("one", [workload(pod)], ["observe"])

    assert NO_TRITON in refusal(kustomize, folder)


def test_another_workload_beside_triton_stops_it(kustomize: Kustomize, overlays: Overlays) -> None:
    """A frontend in the same kustomization gets no probe."""
    frontend = workload({"containers": [{"name": "web", "image": "web:1"}]}, name="web")
    folder = overlays.add("one", [workload(triton()), frontend], ["observe"])

    assert NO_TRITON in refusal(kustomize, folder)


@pytest.mark.parametrize("component", [*NEED_THE_SIDECAR, "native-sidecar"])
def test_a_component_without_the_sidecar_stops_it(
    kustomize: Kustomize, overlays: Overlays, component: str
) -> None:
    """A gate that asks nobody would keep the pod out of service, or restart Triton for ever."""
    folder = overlays.add("one", [workload(triton())], [component])

    assert NO_SIDECAR in refusal(kustomize, folder)


@pytest.mark.parametrize("component", NEED_THE_SIDECAR)
def test_a_component_after_the_native_sidecar_stops_it(
    kustomize: Kustomize, overlays: Overlays, component: str
) -> None:
    """It would look for the sidecar where it no longer is."""
    folder = overlays.add("one", [workload(triton())], ["observe", "native-sidecar", component])

    assert NO_SIDECAR in refusal(kustomize, folder)


def test_a_gpu_by_another_name_stops_the_claim(kustomize: Kustomize, overlays: Overlays) -> None:
    """Triton would be given two: the MIG device that it asks for, and the claim."""
    pod: dict[str, Any] = triton()
    pod["containers"][0]["resources"] = {"limits": {"nvidia.com/mig-1g.10gb": "1"}}
    folder = overlays.add("one", [workload(pod)], ["observe", "nvml/dra"])

    assert "nvidia.com~1gpu" in refusal(kustomize, folder)


def test_without_a_workload_nothing_is_said(kustomize: Kustomize, overlays: Overlays) -> None:
    """Kustomize takes a patch that finds no target for done; the README says how to look."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "triton"}, "spec": triton()}
    folder = overlays.add("one", [pod], ["observe", *wired.GATES, "native-sidecar"])

    assert kustomize.objects(folder) == [pod]


def test_two_monitors_of_one_name_stop_it(kustomize: Kustomize, overlays: Overlays) -> None:
    """Each takes every sidecar of the namespace: one is enough, and the README says what this refusal means."""
    for name in ("one", "two"):
        overlays.add(name, [workload(triton(), name=name)], ["observe", "monitoring"])

    said = refusal(kustomize, overlays.together())

    assert "already registered id: PodMonitor" in said
    assert "`already registered id: PodMonitor…`" in (K8S / "README.md").read_text("utf-8")


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet", "DeploymentConfig"])
def test_a_workload_of_another_group_is_left_alone(
    kustomize: Kustomize, overlays: Overlays, kind: str
) -> None:
    """Kustomize knows no lists of OpenKruise or OpenShift: a merge would put ours in the place of theirs."""
    pod = {
        **triton(),
        "initContainers": [{"name": "fetch", "image": "fetcher:1"}],
        "volumes": [{"name": "models"}],
    }
    thing = {**workload(pod, kind), "apiVersion": "apps.kruise.io/v1beta1"}
    folder = overlays.add("one", [thing], ["observe", *wired.GATES, "shm", "nvml/nri", "native-sidecar"])

    assert kustomize.objects(folder) == [thing]
