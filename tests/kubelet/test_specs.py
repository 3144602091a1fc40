"""Does the stand-in read manifests as Kubernetes would?"""

from __future__ import annotations

import msgspec
import pytest

from testbed.kubelet.runtime import rights
from testbed.kubelet.specs import Capabilities, HttpGet, PodSpec, SecurityContext
from testbed.pods.resources import Resources

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: triton}
spec: {ports: [{port: 8000}]}
---
apiVersion: apps/v1
kind: Deployment
spec:
  replicas: 2
  template:
    spec:
      shareProcessNamespace: true
      initContainers:
      - {name: once, image: i}
      - {name: beside, restartPolicy: Always, resources: {limits: {memory: 64Mi}}}
      containers:
      - name: main
        ports: [{name: answers, containerPort: 8003}]
        env: [{name: A, value: b}]
        livenessProbe: {httpGet: {path: /livez, port: answers}, periodSeconds: 7}
      volumes: [{name: shm, emptyDir: {medium: Memory, sizeLimit: 64Mi}}, {name: other, hostPath: {path: /}}]
"""


def test_the_first_pod_of_a_stream_is_read_with_kubernetes_defaults() -> None:
    """What a manifest does not say is what the API server would fill in."""
    pod = PodSpec.read(MANIFEST)
    main = pod.container("main")
    assert main.liveness_probe is not None
    assert main.liveness_probe.http_get == HttpGet("answers", "/livez")
    told = main.liveness_probe
    assert (told.period_seconds, told.timeout_seconds, told.failure_threshold) == (7, 1, 3)
    assert (told.success_threshold, told.initial_delay_seconds) == (1, 0)
    assert pod.termination_grace_period_seconds == 30
    assert pod.restart_policy == "Always"
    assert [each.name for each in pod.all()] == ["once", "beside", "main"]
    assert [each.name for each in pod.lasting()] == ["beside", "main"]
    assert pod.container("beside").limits == Resources(memory=64 << 20)
    assert [each.empty_dir is None for each in pod.volumes] == [False, True]
    with pytest.raises(LookupError, match="no container named elsewhere"):
        pod.container("elsewhere")


def test_a_bare_pod_is_read_too() -> None:
    """Of a Pod it is the spec itself."""
    assert [each.name for each in PodSpec.read("kind: Pod\nspec: {containers: [{name: a}]}").containers] == [
        "a"
    ]


def test_what_has_no_pod_is_refused() -> None:
    """A Service is none."""
    with pytest.raises(ValueError, match="no Pod"):
        PodSpec.read("kind: Service\nspec: {ports: []}")


def test_a_probe_of_another_kind_is_refused() -> None:
    """The stand-in asks over HTTP alone, and says so rather than skip a gate."""
    with pytest.raises(msgspec.ValidationError, match="httpGet"):
        PodSpec.read("kind: Pod\nspec: {containers: [{name: a, livenessProbe: {exec: {command: [x]}}}]}")


def test_a_ports_name_is_known_in_its_own_container_alone() -> None:
    """That is why Triton's probes name the sidecar's port by number."""
    pod = PodSpec.read(MANIFEST)
    assert pod.container("main").port("answers") == 8003
    assert pod.container("beside").port(8003) == 8003
    with pytest.raises(LookupError, match="beside has no port named answers"):
        pod.container("beside").port("answers")


@pytest.mark.parametrize(
    ("own", "pods", "flags"),
    [
        (SecurityContext(), SecurityContext(), ["--user=0:0"]),
        (SecurityContext(), SecurityContext(run_as_user=7, run_as_group=8), ["--user=7:8"]),
        (SecurityContext(run_as_user=1), SecurityContext(run_as_user=7, run_as_group=8), ["--user=1:8"]),
        (
            SecurityContext(
                allow_privilege_escalation=False,
                capabilities=Capabilities(add=("SYS_PTRACE",), drop=("ALL",)),
            ),
            SecurityContext(),
            ["--user=0:0", "--cap-drop=all", "--cap-add=sys_ptrace", "--security-opt=no-new-privileges"],
        ),
    ],
)
def test_a_security_context_becomes_users_and_capabilities(
    own: SecurityContext, pods: SecurityContext, flags: list[str]
) -> None:
    """The container's own word goes before the pod's; nobody's word is root."""
    assert rights(own, pods).flags() == flags
