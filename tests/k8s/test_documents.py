"""Do the manifests' comments and their README say what is in force?"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from probe.facts import wiring
from probe.facts.wiring import LIVENESS, OWN_LIVENESS, READINESS, STARTUP
from testbed.manifests.kustomize import Kustomize
from testbed.manifests.overlays import K8S, Overlays, triton, workload
from testbed.manifests.style import departures

README = (K8S / "README.md").read_text("utf-8")
MANIFESTS = sorted(K8S.rglob("*.yaml"))
TIMINGS = (READINESS, LIVENESS, STARTUP, OWN_LIVENESS)
_WORST_START = 30
"""Seconds, as the wiring allows for."""

every_manifest = pytest.mark.parametrize("file", MANIFESTS, ids=lambda path: str(path.relative_to(K8S)))


def snippets(language: str) -> list[str]:
    """The blocks of this language in the README."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@every_manifest
def test_manifests_have_one_style(file: Path) -> None:
    """As kubectl prints them, so that a reader's own diff shows what differs."""
    assert list(departures(file.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "text",
    [
        "a:\n  - 1\n",
        "a:\n    b: 1\n",
        "a: {b: 1}\n",
        "a: 'b'\n",
        'a: "b"\n',
        "a: 1\na: 2\n",
        "a: 1 \n",
        "a: 1",
        "a: " + "b" * 120 + "\n",
        "a:\n- b: 1\n  c:\n    - 1\n",
    ],
)
def test_each_departure_from_the_style_is_found(text: str) -> None:
    """A list beside its key's column, four blanks, flow style, quotes, a key twice, blanks and line ends."""
    assert len(list(departures(text))) == 1


@every_manifest
def test_a_kustomization_begins_with_what_it_is(file: Path) -> None:
    """A reader who opens a folder learns what it does and what it needs."""
    if file.name == "kustomization.yaml":
        assert file.read_text("utf-8").startswith("# ")


def test_every_sum_in_a_comment_is_right() -> None:
    """``38 x 10 s = 380 s`` is the wiring's, and so is each other figure of the kind."""
    decided = {(str(each.failure_threshold), str(each.period_seconds)) for each in TIMINGS}
    seen = set()
    for file in (*MANIFESTS, K8S / "README.md"):
        for threshold, period, _, total in re.findall(
            r"(\d+) x (\d+) s( = (\d+) s)?", file.read_text("utf-8")
        ):
            assert not total or int(threshold) * int(period) == int(total)
            seen.add((threshold, period))

    assert seen == decided - {(str(READINESS.failure_threshold), str(READINESS.period_seconds))}


def test_long_times_are_those_of_the_wiring() -> None:
    """Whatever is said to take minutes is one of the kubelet's figures or of the wiring's."""
    known = {each.seconds_to_fail for each in TIMINGS} | {
        60,  # the sidecar's own liveness, as a part of sums
        100,  # it, its grace and a slow start
        300,  # the kubelet's longest back-off
        360,  # it, the kubelet's late look and a slow start
    }
    for file in (*MANIFESTS, K8S / "README.md"):
        said = {int(each) for each in re.findall(r"\b(\d{2,}) s\b", file.read_text("utf-8"))}

        assert {each for each in said if each > 30} <= known, file


def test_how_long_a_sidecar_hangs_is_the_sum_of_its_figures() -> None:
    """Until its own probe has failed, until it is killed, and until it answers, which may take half a minute."""
    (said,) = {int(each) for each in re.findall(r"answers again: about (\d+) s", README)}
    grace = OWN_LIVENESS.grace_seconds or 0

    assert said == OWN_LIVENESS.seconds_to_fail + grace + _WORST_START
    assert f"ended after {OWN_LIVENESS.seconds_to_fail} s, and killed after {grace} s more" in README


def test_the_table_of_figures_is_the_wirings() -> None:
    """Path, period, failures and time of each probe."""
    rows = re.findall(
        r"^\| .*Probe of .* \| `(/\w+)` \| (\d+) s \| (\d+) \| (\d+) s \|$", README, re.MULTILINE
    )

    assert rows == [
        (each.path, *map(str, (each.period_seconds, each.failure_threshold, each.seconds_to_fail)))
        for each in TIMINGS
    ]


def test_a_sidecar_that_hangs_over_and_over_is_said_to_restart_triton() -> None:
    """Its own liveness and grace, the kubelet's longest back-off and a slow start: too long for Triton."""
    hung = OWN_LIVENESS.seconds_to_fail + (OWN_LIVENESS.grace_seconds or 0)
    (cell,) = re.findall(r"one that hangs over and over [^|]*", README)

    assert hung + 300 + _WORST_START > LIVENESS.seconds_to_fail
    assert (
        f"up to 300 s later, and Triton is restarted if it then answers nothing for {LIVENESS.seconds_to_fail} s"
        in cell
    )


def test_the_sidecars_resources_are_the_wirings() -> None:
    """The README names what the container asks for."""
    requests, limits = wiring.RESOURCES.requests, wiring.RESOURCES.limits

    assert f"asks for {requests.cpu} CPU and {requests.memory} and may take {limits.memory}" in README


def test_every_component_and_example_is_in_the_readme() -> None:
    """And no other is named."""
    components = {
        str(path.parent.relative_to(K8S / "components")) for path in K8S.glob("components/**/kust*")
    }
    examples = {path.parent.name for path in K8S.glob("examples/*/kust*")}
    named = set(re.findall(r"`((?:nvml/)?[a-z-]+)`", README))

    assert components - named == set()
    assert {each for each in named if each.startswith("nvml/")} <= components
    assert set(re.findall(r"\]\(examples/([a-z-]+)\)", README)) == examples


def test_the_readmes_kustomizations_render(kustomize: Kustomize, overlays: Overlays) -> None:
    """Each can be pasted; what it says reaches the pod."""
    whole, security, settings, monitoring = map(yaml.safe_load, snippets("yaml"))
    components = [each.removeprefix("components/") for each in whole.pop("components")]
    del whole["resources"]

    folder = overlays.add("begin", [workload(triton())], components, **whole)
    (begun,) = kustomize.objects(folder)
    folder = overlays.add("settings", [workload(triton())], components, **settings)
    (set_,) = kustomize.objects(folder)
    folder = overlays.add("monitoring", [workload(triton())], [*components, "monitoring"], **monitoring)
    labels = {each["kind"]: each["metadata"].get("labels") for each in kustomize.objects(folder)}

    assert begun["spec"]["template"]["spec"]["containers"][1]["image"] == "triton-probe:0.1.0"
    first, second = set_["spec"]["template"]["spec"]["containers"]
    assert (first["name"], second["name"]) == ("triton", "triton-probe")
    assert second["env"] == [{"name": "TRITON_PROBE_TRITON__GRPC", "value": "127.0.0.1:9000"}]
    release = {"release": "kube-prometheus-stack"}
    assert labels == {"Deployment": None, "PodMonitor": release, "PrometheusRule": release}
    assert (
        security["securityContext"]["runAsUser"] == security["securityContext"]["runAsGroup"] == wiring.USER
    )


def test_the_count_of_the_readme_tells_whether_there_is_a_sidecar(
    kustomize: Kustomize, overlays: Overlays
) -> None:
    """What it greps for is there once, and not at all where kustomize found nothing to patch."""
    pattern = re.search(r"grep -c '([^']+)'", README)
    assert pattern is not None
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "triton"}, "spec": triton()}
    patched = kustomize.text(overlays.add("one", [workload(triton())], ["observe", "monitoring"]))
    missed = kustomize.text(overlays.add("two", [pod], ["observe", "monitoring"]))

    assert len(re.findall(pattern[1], patched, re.MULTILINE)) == 1
    assert re.findall(pattern[1], missed, re.MULTILINE) == []


def test_the_readmes_renaming_renames(kustomize: Kustomize, tmp_path: Path) -> None:
    """Every component finds a container of another name in a copy that its command has changed; macOS takes it too."""
    (command,) = (each for each in snippets("sh") if each.startswith("sed "))
    assert command.startswith("sed -i.bak -E '")  # the sed of BSD wants a suffix, and knows no \| without -E
    shutil.copytree(K8S / "components", tmp_path / "components")
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True)
    overlays = Overlays(tmp_path / "k8s", tmp_path / "components")
    pod = triton("server")
    pod["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
    for nvml in ("env", "runtime-class", "volume-mount", "dra"):
        components = ("observe", "startup", "gate-readiness", "gate-liveness", "shm", f"nvml/{nvml}")
        overlays.add(
            f"triton-{nvml}", [workload(pod, name=nvml)], (*components, "native-sidecar"), namespace=nvml
        )

    for thing in kustomize.objects(overlays.together()):
        if thing["kind"] == "Deployment":
            (container,) = thing["spec"]["template"]["spec"]["containers"]
            assert container["name"] == "server"
            assert {"startupProbe", "readinessProbe", "livenessProbe", "volumeMounts"} <= container.keys()
