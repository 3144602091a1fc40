"""Would a cluster take the examples, and are they wired as the components wire?"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from probe.facts import wiring
from probe.settings import load
from testbed.manifests.kustomize import Kustomize
from testbed.manifests.overlays import K8S
from testbed.manifests.schemas import CUSTOM, RELEASES, complaints, custom_complaints, is_custom
from tests.k8s import wired

EXAMPLES = sorted(path.parent for path in K8S.glob("examples/*/kustomization.yaml"))
_REGISTRY = re.compile(r"^[^/]*[.:][^/]*/|^localhost/")
"""A first part with a dot or a port is a host."""

Objects = Callable[[Path], list[dict[str, Any]]]

every_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def objects(kustomize: Kustomize) -> Objects:
    """What an example is, rendered once for all tests."""
    text = functools.cache(kustomize.text)
    return lambda example: list(yaml.load_all(text(example), yaml.CSafeLoader))


def pods(thing: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod specs in an object; a ServingRuntime's is a part of one."""
    if thing["kind"] == "ServingRuntime":
        yield thing["spec"]
    elif "template" in thing.get("spec", {}):
        yield thing["spec"]["template"]["spec"]


def test_there_is_an_example_for_each_platform() -> None:
    """Those that the README speaks of."""
    names = {path.name for path in EXAMPLES}

    assert names == {"deployment", "statefulset", "kserve", "mig", "gpu-operator-cdi", "gke"}


@every_example
def test_each_kustomize_renders_it_alike_and_without_a_warning(
    kustomizes: tuple[Kustomize, ...], example: Path
) -> None:
    """Twice with each that this machine has: byte for byte the same."""
    assert len({each.text(example) for each in (*kustomizes, *kustomizes)}) == 1


@every_example
@pytest.mark.parametrize("release", RELEASES)
def test_a_cluster_takes_it(objects: Objects, example: Path, release: str) -> None:
    """By the schemas of three releases, and no field is one that the API server would drop."""
    core = [each for each in objects(example) if not is_custom(each)]

    assert [said for each in core if (said := complaints(each, release))] == []


@every_example
def test_custom_resources_are_what_their_projects_define(objects: Objects, example: Path) -> None:
    """By KServe's and Prometheus Operator's own definitions."""
    custom = [each for each in objects(example) if is_custom(each)]
    if not CUSTOM.is_dir():
        pytest.skip(
            f"the definitions of custom resources are not at hand ({CUSTOM.name} beside this project)"
        )

    assert custom
    assert [said for each in custom if (said := custom_complaints(each))] == []


def test_a_definition_refuses_what_it_does_not_name(objects: Objects) -> None:
    """An API server would take such a field away without a word."""
    if not CUSTOM.is_dir():
        pytest.skip("the definitions of custom resources are not at hand")
    (service,) = (each for each in objects(K8S / "examples/kserve") if each["kind"] == "InferenceService")
    service["spec"]["predictor"]["shareProcessNamespaces"] = True

    assert "shareProcessNamespaces" in str(custom_complaints(service))


@every_example
def test_every_probe_and_the_sidecar_are_as_decided(objects: Objects, example: Path) -> None:
    """In written-out objects too: figures, port, resources and security context are those of the wiring."""
    decided = {timing.path: wired.probe(timing) for _, timing in wired.GATES.values()}
    seen = 0
    for pod in (pod for each in objects(example) for pod in pods(each)):
        triton, *others = pod["containers"]
        for field in ("startupProbe", "readinessProbe", "livenessProbe"):
            if field in triton:
                assert triton[field] == decided[triton[field]["httpGet"]["path"]]
        (sidecar,) = (
            each for each in (*others, *pod.get("initContainers", ())) if each["name"] == wiring.CONTAINER
        )
        assert {key: sidecar[key] for key in wired.sidecar()} == wired.sidecar()
        assert sidecar.keys() - wired.sidecar().keys() <= {"env", "volumeMounts", "restartPolicy"}
        seen += 1

    assert seen == 1


@every_example
def test_triton_runs_as_the_sidecar_does(objects: Objects, example: Path) -> None:
    """The kernel shows a process to the same uid and gid, with no capability less."""
    for pod in (pod for each in objects(example) for pod in pods(each)):
        security = pod["containers"][0]["securityContext"]

        assert (security["runAsUser"], security["runAsGroup"]) == (wiring.USER, wiring.USER)
        assert security["capabilities"] == {"drop": ["ALL"]}


@every_example
def test_the_process_namespace_is_shared(objects: Objects, example: Path) -> None:
    """Without it dead stubs can not be seen; under KServe only an InferenceService can say so."""
    things = objects(example)
    shared = [pod.get("shareProcessNamespace") for each in things for pod in pods(each)]
    predictors = [each["spec"]["predictor"] for each in things if each["kind"] == "InferenceService"]

    assert [said for said in (*shared, *(each["shareProcessNamespace"] for each in predictors)) if said] == [
        True
    ]


@every_example
def test_triton_asks_for_what_it_needs_and_has_room_for_shm(objects: Objects, example: Path) -> None:
    """No example is BestEffort, and none has the 64 MiB of a runtime's default."""
    for pod in (pod for each in objects(example) for pod in pods(each)):
        triton = pod["containers"][0]

        assert {"cpu", "memory"} <= triton["resources"]["requests"].keys()
        assert "memory" in triton["resources"]["limits"]
        assert {"name": wiring.SHM_VOLUME, "mountPath": wiring.SHM_PATH} in triton["volumeMounts"]


@every_example
def test_no_image_names_a_registry(objects: Objects, example: Path) -> None:
    """Where images lie is the reader's to say, by ``images:``, which reaches every image of the example."""
    said = (example / "kustomization.yaml").read_text("utf-8")
    for pod in (pod for each in objects(example) for pod in pods(each)):
        images = [each["image"] for each in (*pod["containers"], *pod.get("initContainers", ()))]

        assert [image for image in images if _REGISTRY.search(image)] == []
        assert all(f"name: {image.partition(':')[0]}\n" in said for image in images)


@every_example
def test_images_can_be_renamed(kustomize: Kustomize, example: Path, tmp_path: Path) -> None:
    """``newName`` of the kustomization reaches the sidecar, in custom resources too."""
    shutil.copytree(K8S, tmp_path / "k8s")
    file = tmp_path / "k8s/examples" / example.name / "kustomization.yaml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("triton-probe\n  newTag", "triton-probe\n  newName: mirror/probe\n  newTag"))

    rendered = kustomize.text(file.parent)

    assert "image: mirror/probe:0.1.0" in rendered
    assert "image: triton-probe:" not in rendered


def test_the_settings_of_the_statefulset_are_ones() -> None:
    """The probe takes the file as it is."""
    settings = load(K8S / "examples/statefulset/probe.yaml", {}, {}).settings

    assert settings.models.required == ("embedder",)


def test_kserves_ports_reach_the_probe(objects: Objects) -> None:
    """What the runtime tells Triton and what the sidecar is told are the same."""
    (runtime,) = (each for each in objects(K8S / "examples/kserve") if each["kind"] == "ServingRuntime")
    triton, sidecar = runtime["spec"]["containers"]
    told = {each["name"]: each["value"] for each in sidecar["env"]}

    settings = load(None, told, {}).settings

    assert f"--grpc-port={settings.triton.grpc.rpartition(':')[2]}" in triton["args"]
    assert f"--http-port={settings.triton.http.rpartition(':')[2]}" in triton["args"]
