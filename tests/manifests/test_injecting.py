"""What is written into each kind of object, and what is said of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from probe.facts.wiring import ANNOTATION, CONTAINER, SHM_VOLUME, Amounts
from probe.manifests.errors import ManifestError
from probe.manifests.injecting import Fate, Outcome, inject, take_out
from probe.manifests.streams import Report, Stream
from probe.manifests.users import User
from probe.manifests.wishes import Existing, GateProbe, Native, Nvml, Wishes
from probe.manifests.workloads import Workload

TRITON = """\
      - name: triton
        image: tritonserver:24.10
        resources: {limits: {memory: 8Gi}}
        securityContext: {runAsUser: 1000}
"""
DEPLOYMENT = f"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: triton
spec:
  template:
    spec:
      containers:
{TRITON}"""
EVERY_GATE = tuple(GateProbe)


def injected(text: str, wishes: Wishes | None = None) -> tuple[str, list[Report]]:
    """The stream with the sidecar; it has to come out again."""
    stream = Stream(text, knative=bool(wishes and wishes.knative))
    runtimes = stream.runtimes()
    after, reports = stream.edited(lambda part, work: inject(part, work, wishes or Wishes(), runtimes))
    assert Stream(after).edited(take_out)[0] == text
    return after, reports


def pod_of(text: str, *path: str) -> dict[str, Any]:
    """What stands at this path of the one object."""
    value = yaml.safe_load(text)
    for step in path:
        value = value[step]
    assert isinstance(value, dict)
    return value


def deployed(wishes: Wishes | None = None, *, text: str = DEPLOYMENT) -> dict[str, Any]:
    """The pod of the injected Deployment."""
    return pod_of(injected(text, wishes)[0], "spec", "template", "spec")


def advised(text: str, wishes: Wishes | None = None) -> str:
    """Everything that is warned of, a line each, with the line of the text that it is about."""
    return "\n".join(f"{line}: {says}" for each in injected(text, wishes)[1] for line, says in each.advice)


def test_the_sidecar_is_wired_as_the_facts_say() -> None:
    """An observer: no gate, no readinessProbe of its own, Triton's user, and a /dev/shm."""
    pod = deployed()
    triton, sidecar = pod["containers"]

    assert sidecar == {
        "name": "triton-probe",
        "image": "triton-probe:0.1.0",
        "args": ["serve"],
        "ports": [{"name": "probe", "containerPort": 8003}],
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": 8003},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
            "terminationGracePeriodSeconds": 10,
        },
        "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "192Mi"}},
        "securityContext": {
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    assert pod["shareProcessNamespace"] is True
    assert pod["volumes"] == [{"name": SHM_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]
    assert triton["volumeMounts"] == [{"name": SHM_VOLUME, "mountPath": "/dev/shm"}]
    assert not any(each.key in triton for each in GateProbe)


@pytest.mark.parametrize(
    ("kind", "group", "path"),
    [
        ("Pod", "v1", "spec"),
        ("PodTemplate", "v1", "template.spec"),
        ("ReplicationController", "v1", "spec.template.spec"),
        ("ReplicaSet", "apps/v1", "spec.template.spec"),
        ("Deployment", "apps/v1", "spec.template.spec"),
        ("StatefulSet", "apps/v1", "spec.template.spec"),
        ("DaemonSet", "apps/v1", "spec.template.spec"),
        ("Job", "batch/v1", "spec.template.spec"),
        ("CronJob", "batch/v1", "spec.jobTemplate.spec.template.spec"),
    ],
)
def test_every_kind_that_runs_pods(kind: str, group: str, path: str) -> None:
    """Wherever the pod's spec stands in it; a Job gets a native sidecar, or it would never end."""
    pod: dict[str, Any] = {"containers": [{"name": "t", "image": "tritonserver"}]}
    value: Any = pod
    for step in reversed(path.split(".")):
        value = {step: value}
    text = yaml.safe_dump(
        {"apiVersion": group, "kind": kind, "metadata": {"name": "n"}, **value}, sort_keys=False
    )
    after = pod_of(injected(text)[0], *path.split("."))
    native = kind in ("Job", "CronJob")

    assert [each["name"] for each in after["containers"]] == ["t"] if native else ["t", CONTAINER]
    assert [each.get("restartPolicy") for each in after.get("initContainers", ())] == (
        ["Always"] if native else []
    )
    assert after["shareProcessNamespace"] is True


@pytest.mark.parametrize(
    ("native", "kubernetes", "expected"),
    [
        (Native.AUTO, None, False),
        (Native.AUTO, (1, 28), False),
        (Native.AUTO, (1, 29), True),
        (Native.AUTO, (2, 0), True),
        (Native.NEVER, (1, 33), False),
        (Native.ALWAYS, None, True),
    ],
)
def test_a_native_sidecar_where_the_release_has_them(
    native: Native, kubernetes: tuple[int, int] | None, *, expected: bool
) -> None:
    """It is the last init container then: what fetches the models goes before it."""
    text = DEPLOYMENT + "      initContainers: [{name: fetch, image: busybox}]\n"
    pod = deployed(Wishes(native=native, kubernetes=kubernetes), text=text)

    assert [each["name"] for each in pod["initContainers"]] == ["fetch", *([CONTAINER] if expected else [])]
    assert len(pod["containers"]) == (1 if expected else 2)


def test_a_job_with_a_plain_sidecar_is_warned_of() -> None:
    """It would not end; and a release that is too old is said where a native one is asked for."""
    job = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  template:\n    spec:\n      containers:\n"
    assert "a Job does not end" in advised(job + TRITON, Wishes(native=Native.NEVER))
    assert "a Job does not end" in advised(job + TRITON, Wishes(kubernetes=(1, 27)))
    assert "does not end" not in advised(job + TRITON)
    assert "needs Kubernetes 1.29" in advised(DEPLOYMENT, Wishes(native=Native.ALWAYS, kubernetes=(1, 28)))


def test_gates_ask_the_sidecar_by_number() -> None:
    """On Triton's container, where the kubelet would not find a named port of another."""
    triton = deployed(Wishes(gates=EVERY_GATE))["containers"][0]

    assert {key: triton[key]["httpGet"] for key in ("readinessProbe", "livenessProbe", "startupProbe")} == {
        "readinessProbe": {"path": "/readyz", "port": 8003},
        "livenessProbe": {"path": "/livez", "port": 8003},
        "startupProbe": {"path": "/startupz", "port": 8003},
    }
    assert triton["livenessProbe"]["failureThreshold"] * triton["livenessProbe"]["periodSeconds"] > 300


OWN_PROBE = """\
        readinessProbe:  # ours
          httpGet: {path: /v2/health/ready, port: http}
          # asked often
          periodSeconds: 2  # seconds
        ports: []
"""


def test_triton_s_own_probes_are_kept_or_replaced_as_told() -> None:
    """Kept by default, and said; replaced, they come back with --remove, comments and all."""
    text = DEPLOYMENT + OWN_PROBE
    kept, replaced = (Wishes(gates=EVERY_GATE, existing=each) for each in Existing)

    assert deployed(kept, text=text)["containers"][0]["readinessProbe"]["periodSeconds"] == 2
    assert "readinessProbe not wired: Triton's own is kept" in advised(text, kept)
    assert deployed(replaced, text=text)["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "replaced readinessProbe: /readyz on port 8003" in injected(text, replaced)[1][0].told


def test_what_somebody_added_to_the_sidecar_stays() -> None:
    """Variables, mounts and whatever else inject does not write itself; options of the run go before its own."""
    once = injected(DEPLOYMENT)[0]
    edited = once.replace(
        "        args: [serve]\n",
        "        args: [serve]\n        imagePullPolicy: Always\n"
        "        env: [{name: TRITON_PROBE_LOG__LEVEL, value: debug}, {name: TRITON_PROBE_TRITON__GRPC, value: x}]\n",
    ).replace("20m", "30m")
    stream = Stream(edited)
    again, _ = stream.edited(lambda part, work: inject(part, work, Wishes()))
    sidecar = pod_of(again, "spec", "template", "spec")["containers"][1]

    assert sidecar["imagePullPolicy"] == "Always"
    assert sidecar["env"] == [{"name": "TRITON_PROBE_LOG__LEVEL", "value": "debug"}]
    assert sidecar["resources"]["requests"]["cpu"] == "20m"
    assert Stream(again).edited(lambda part, work: inject(part, work, Wishes()))[0] == again
    assert Stream(again).edited(take_out)[0] == DEPLOYMENT


def test_what_somebody_added_to_our_lists_stays_when_ours_goes() -> None:
    """A volume beside ours, and an annotation beside our record."""
    once = injected(DEPLOYMENT)[0]
    edited = once.replace("  annotations:\n", "  annotations:\n    a: b\n")
    edited = edited.replace("      volumes:\n", "      volumes:\n      - name: mine\n        emptyDir: {}\n")
    after = yaml.safe_load(Stream(edited).edited(take_out)[0])

    assert after["metadata"]["annotations"] == {"a": "b"}
    assert after["spec"]["template"]["spec"]["volumes"] == [{"name": "mine", "emptyDir": {}}]


def test_addresses_are_set_where_they_are_not_the_defaults() -> None:
    """And where the sidecar itself listens elsewhere."""
    text = DEPLOYMENT + "        args: [tritonserver, --grpc-port=9001, --http-port=8000]\n"

    assert deployed(Wishes(port=9003), text=text)["containers"][1]["env"] == [
        {"name": "TRITON_PROBE_TRITON__GRPC", "value": "127.0.0.1:9001"},
        {"name": "TRITON_PROBE_LISTEN", "value": "[::]:9003"},
    ]
    assert "env" not in deployed()["containers"][1]


def test_a_guaranteed_pod_stays_guaranteed() -> None:
    """Where every container's requests are its limits; else the usual requests."""
    guaranteed = DEPLOYMENT.replace("{memory: 8Gi}", "{cpu: 4, memory: 8Gi}")
    sidecar = deployed(text=guaranteed)["containers"][1]

    assert sidecar["resources"]["requests"] == sidecar["resources"]["limits"]
    assert "cpu" in sidecar["resources"]["limits"]
    spelled = guaranteed.replace("{limits", "{requests: {cpu: 4000m, memory: 8192Mi}, limits")
    assert "cpu" in deployed(text=spelled)["containers"][1]["resources"]["limits"]
    burstable = guaranteed.replace("{limits", "{requests: {cpu: 2}, limits")
    assert "cpu" not in deployed(text=burstable)["containers"][1]["resources"]["limits"]


def test_nvml_reserves_no_gpu() -> None:
    """By variables of the sidecar, with a runtime class where asked for; and it goes as it came."""
    pods = [deployed(Wishes(nvml=each)) for each in Nvml]
    variables = [
        {each["name"]: each["value"] for each in pod["containers"][1].get("env", ())} for pod in pods
    ]
    nvml = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "utility"}

    assert variables == [{}, nvml, nvml]
    assert [each.get("runtimeClassName") for each in pods] == [None, None, "nvidia"]
    assert (
        deployed(Wishes(nvml=Nvml.CLASS), text=DEPLOYMENT + "      runtimeClassName: x\n")["runtimeClassName"]
        == "x"
    )
    assert "no runtimeClassName" in advised(RUNTIME, Wishes(nvml=Nvml.CLASS))


def test_options_go_before_what_is_chosen() -> None:
    """Image, resources, user and the volume's size."""
    wishes = Wishes(
        image="r/p:2",
        requests=Amounts(cpu="50m"),
        limits=Amounts(memory="1Gi"),
        user=User(5, 6),
        shm="256Mi",
    )
    pod = deployed(wishes)
    sidecar = pod["containers"][1]

    assert sidecar["image"] == "r/p:2"
    assert sidecar["resources"] == {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "1Gi"}}
    assert (sidecar["securityContext"]["runAsUser"], sidecar["securityContext"]["runAsGroup"]) == (5, 6)
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == "256Mi"
    assert "volumes" not in deployed(Wishes(shm=None))


@pytest.mark.parametrize(
    ("added", "says"),
    [
        ("      hostPID: true\n", "13: hostPID: the probe sees every process"),
        ("      hostNetwork: true\n", "13: hostNetwork: the probe's port is the node's"),
        ("      shareProcessNamespace: false\n", "13: shareProcessNamespace is false"),
        ("        args: [--allow-grpc=false]\n", "--allow-grpc=false"),
        ("        args: [--grpc-use-ssl=1]\n", "gRPC is guarded (--grpc-use-ssl)"),
        ("        args: ['--grpc-restricted-protocol=health:k=v']\n", "guarded (--grpc-restricted-protocol)"),
        ("        args: [--allow-http=false]\n", "--allow-http=false"),
        ("        args: [--allow-metrics=false]\n", "--allow-metrics=false"),
        ("        args: [--grpc-port=$(P)]\n", "--grpc-port=$(P) can not be told"),
        (
            "        livenessProbe: {httpGet: {path: /}, initialDelaySeconds: 5}\n",
            "longer than 35 s is killed",
        ),
        (
            "        lifecycle: {preStop: {exec: {command: [sh, -c, 'kill -s INT 1; sleep 9']}}}\n",
            "9: a command of the container triton goes to process 1",
        ),
        (
            "      - {name: b, image: b, livenessProbe: {exec: {command: [cat, /proc/1/status]}}}\n",
            "13: a command of the container b goes to process 1",
        ),
        (
            "      - {name: b, image: b, securityContext: {runAsUser: 7}}\n",
            "13: the container b runs as uid 7",
        ),
    ],
)
def test_what_is_wrong_around_triton_is_told_with_its_line(added: str, says: str) -> None:
    """Each with what cures it."""
    assert says in advised(DEPLOYMENT + added)


@pytest.mark.parametrize(
    ("added", "whose"),
    [
        ("        ports: [{containerPort: 8003}]\n", "triton"),
        ("        args: [--http-port=8003]\n", "triton"),
        ("        args: [--allow-metrics=true, --metrics-port=8003]\n", "triton"),
        ("      - {name: b, image: b, ports: [{containerPort: 8003}]}\n", "b"),
        ("      initContainers: [{name: i, restartPolicy: Always, ports: [{containerPort: 8003}]}]\n", "i"),
    ],
)
def test_a_port_that_is_taken_is_not_taken_away(added: str, whose: str) -> None:
    """Who starts first would have it, and a native sidecar starts before Triton: nothing is written."""
    after, (report,) = injected(DEPLOYMENT + added)

    assert (after, report.fate) == (DEPLOYMENT + added, Fate.UNCLEAR)
    assert report.told == (f"port 8003 is that of the container {whose}: choose another with --port",)
    assert injected(DEPLOYMENT + added, Wishes(port=9003))[1][0].fate is Fate.INJECTED


def test_a_sound_manifest_is_not_warned_of() -> None:
    """Nothing is said that nobody needs to do anything about."""
    assert advised(DEPLOYMENT) == ""
    assert advised(DEPLOYMENT, Wishes(gates=EVERY_GATE, kubernetes=(1, 33))) == ""


def test_no_gate_is_wired_that_would_never_open() -> None:
    """Without gRPC the probe can judge no model, and a pod that waits for it would never be in service."""
    text = DEPLOYMENT + "        args: [--allow-grpc=false]\n"
    triton, _ = deployed(Wishes(gates=EVERY_GATE), text=text)["containers"]

    assert not {"readinessProbe", "livenessProbe", "startupProbe"} & triton.keys()
    assert advised(text, Wishes(gates=EVERY_GATE)).count("would never open") == len(EVERY_GATE)


def test_a_gpu_without_nvml_is_told() -> None:
    """Where it neither is asked for nor was added to the sidecar by hand."""
    text = DEPLOYMENT.replace("{memory: 8Gi}", "{memory: 8Gi, nvidia.com/gpu: 1}")
    added = "        env:\n        - name: NVIDIA_VISIBLE_DEVICES\n          value: all\n"
    by_hand = injected(text)[0].replace("        ports:\n", f"{added}        ports:\n")
    after, reports = Stream(by_hand).edited(lambda part, work: inject(part, work, Wishes()))

    assert "Triton has a GPU, and the sidecar no NVML" in advised(text)
    assert advised(text, Wishes(nvml=Nvml.ENV)) == ""
    assert after == by_hand
    assert reports[0].advice == ()


def test_tls_that_is_off_is_not_warned_of() -> None:
    """However it is said."""
    assert advised(DEPLOYMENT + "        args: [--grpc-use-ssl=false, --grpc-use-ssl, '0']\n") == ""


@pytest.mark.parametrize("line", ["kill -TERM 10", "kill 1.5", "pkill -1 tritonserver", "cat /proc/11/stat"])
def test_other_signals_are_not_warned_of(line: str) -> None:
    """Of another process, by number or by name."""
    hook = f"        lifecycle: {{preStop: {{exec: {{command: [sh, -c, '{line}']}}}}}}\n"

    assert advised(DEPLOYMENT + hook) == ""


def test_missing_resources_are_told() -> None:
    """None at all, and no memory limit."""
    assert "BestEffort" in advised(DEPLOYMENT.replace("{limits: {memory: 8Gi}}", "{}"))
    assert "no memory limit" in advised(DEPLOYMENT.replace("{limits: {memory: 8Gi}}", "{requests: {cpu: 1}}"))


def test_a_volume_for_shm_is_looked_at() -> None:
    """One that is there is left; on disk, without a limit, or not there and not wanted, it is told."""
    mounted = (
        DEPLOYMENT
        + "        volumeMounts: [{name: s, mountPath: /dev/shm/}]\n      volumes: [{name: s, emptyDir: {X}}]\n"
    )
    disk, endless = mounted.replace("X", ""), mounted.replace("X", "medium: Memory")

    assert len(deployed(text=disk)["volumes"]) == 1
    assert "is on disk" in advised(disk)
    assert "has no sizeLimit" in advised(endless)
    assert advised(mounted.replace("X", "medium: Memory, sizeLimit: 1Gi")) == ""
    assert "is 64Mi without a volume" in advised(DEPLOYMENT, Wishes(shm=None))
    assert "volumes" not in deployed(text=DEPLOYMENT + "      hostIPC: true\n")


def test_a_volume_of_the_same_name_is_not_doubled() -> None:
    """Kubernetes refuses two of one name."""
    text = DEPLOYMENT + "      volumes: [{name: triton-probe-shm, emptyDir: {}}]\n"

    assert len(deployed(text=text)["volumes"]) == 1
    assert "is there, and not by inject" in advised(text)


def test_host_processes_and_shared_ones_are_not_written_together() -> None:
    """Kubernetes refuses a pod with both."""
    assert "shareProcessNamespace" not in deployed(text=DEPLOYMENT + "      hostPID: true\n")


INFERENCE = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: i
  annotations:
    serving.kserve.io/deploymentMode: MODE
spec:
  predictor:
    model:
      modelFormat: {name: triton}
      RUNTIME
      resources: {limits: {memory: 8Gi}}
"""
RUNTIME = """\
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: ours}
spec:
  containers:
  - name: kserve-container
    image: tritonserver:24.10
    resources: {limits: {memory: 8Gi}}
    securityContext: {runAsUser: 1000}
"""


def inference(mode: str = "Standard", runtime: str = "kserve-tritonserver") -> str:
    """An InferenceService in this mode, which asks for this runtime."""
    return INFERENCE.replace("MODE", mode).replace("RUNTIME", f"runtime: {runtime}")


def test_an_inference_service_gets_everything_in_its_predictor() -> None:
    """The mount and the gates on ``model``, which KServe merges into Triton's container."""
    predictor = pod_of(injected(inference(), Wishes(gates=EVERY_GATE))[0], "spec", "predictor")

    assert [each["name"] for each in predictor["containers"]] == [CONTAINER]
    assert predictor["shareProcessNamespace"] is True
    assert predictor["model"]["volumeMounts"][0]["name"] == SHM_VOLUME
    assert predictor["model"]["readinessProbe"]["httpGet"]["port"] == 8003
    assert predictor["containers"][0]["env"][0]["value"] == "127.0.0.1:9000"
    assert predictor["containers"][0]["securityContext"]["runAsUser"] == 1000
    assert advised(inference()) == ""


def test_a_runtime_gets_what_a_runtime_may_have() -> None:
    """The sidecar, the volume and the gates; no process namespace and no init container."""
    wishes = Wishes(gates=EVERY_GATE, native=Native.ALWAYS)
    spec = pod_of(injected(RUNTIME, wishes)[0], "spec")

    assert [each["name"] for each in spec["containers"]] == ["kserve-container", CONTAINER]
    assert set(spec) == {"containers", "volumes"}
    assert "readinessProbe" in spec["containers"][0]
    assert "set spec.predictor.shareProcessNamespace: true in each InferenceService" in advised(
        RUNTIME, wishes
    )
    assert "no native sidecar" in advised(RUNTIME, wishes)


def test_with_its_runtime_in_the_same_run_a_service_only_shares_its_processes() -> None:
    """Both would bring a container of one name."""
    after, reports = injected(f"{RUNTIME}---\n{inference(runtime='ours')}")
    predictor = list(yaml.safe_load_all(after))[1]["spec"]["predictor"]

    assert set(predictor) == {"model", "shareProcessNamespace"}
    assert [each.fate for each in reports] == [Fate.INJECTED, Fate.INJECTED]


def test_an_unknown_runtime_is_taken_for_one_without_root() -> None:
    """And said, for nobody can know it from here."""
    text = inference(runtime="our-triton")
    sidecar = pod_of(injected(text)[0], "spec", "predictor")["containers"][0]

    assert sidecar["securityContext"]["runAsUser"] == 1000
    assert "--user UID:GID" in advised(text)


KNATIVE_SERVICE = """\
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: s}
spec:
  template:
    spec:
      containers:
"""


@pytest.mark.parametrize(
    ("text", "path", "knative"),
    [
        (inference("Serverless"), "spec.predictor", False),
        (inference("Knative"), "spec.predictor", False),
        (inference("").replace("serving.kserve.io/deploymentMode: ", "a: b"), "spec.predictor", True),
        (KNATIVE_SERVICE + TRITON, "spec.template.spec", False),
    ],
)
def test_knative_gets_what_knative_allows(text: str, path: str, *, knative: bool) -> None:
    """One port, no probes of a sidecar, no process namespace, no init container; what is left is said."""
    wishes = Wishes(gates=EVERY_GATE, native=Native.ALWAYS, knative=knative)
    pod = pod_of(injected(text, wishes)[0], *path.split("."))
    sidecar = pod["containers"][-1]

    assert sidecar["name"] == CONTAINER
    assert {"ports", "livenessProbe", "restartPolicy"}.isdisjoint(sidecar)
    assert {"shareProcessNamespace", "initContainers"}.isdisjoint(pod)
    assert "readinessProbe" not in pod.get("model", pod["containers"][0])
    assert "readinessProbe not wired" in advised(text, wishes)
    assert "what is left are" in advised(text, wishes)


def test_model_mesh_makes_no_pod_of_a_service() -> None:
    """Its models go into the pods of serving runtimes."""
    assert injected(inference("ModelMesh")) == (inference("ModelMesh"), [])


def test_a_service_without_a_mode_is_told_of_the_clusters() -> None:
    """As KServe is installed, that is the one where Knative refuses what is written here."""
    text = inference("").replace("serving.kserve.io/deploymentMode: ", "a: b")

    assert "no deployment mode is written" in advised(text)


def test_a_list_of_objects_is_edited_item_by_item() -> None:
    """As YAML and as JSON; what is no workload in it stays."""
    items = DEPLOYMENT.replace("\n", "\n  ").rstrip()
    text = f"apiVersion: v1\nkind: List\nitems:\n# first\n- {items}\n- kind: Secret\n# between\n- {items}\n# end\n"
    after, reports = injected(text)
    first, secret, last = yaml.safe_load(after)["items"]

    assert first == last == yaml.safe_load(injected(DEPLOYMENT)[0])
    assert secret == {"kind": "Secret"}
    assert [each.line for each in reports] == [5, 19]
    assert "# between\n- apiVersion" in after
    listed = {"apiVersion": "v1", "kind": "DeploymentList", "items": [yaml.safe_load(DEPLOYMENT)] * 2}
    for indent in (None, 4):
        assert json.loads(injected(json.dumps(listed, indent=indent))[0])["items"] == [first, first]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (
            DEPLOYMENT.replace("      containers:\n", "      x: &c\n").replace("8Gi}}", "8Gi}}")
            + "      containers: *c\n",
            13,
            "spec.template.spec.containers is the alias *c",
        ),
        (
            DEPLOYMENT.replace("containers:", "containers: &c") + "      initContainers: *c\n",
            8,
            "containers is the anchor &c, which an alias repeats elsewhere",
        ),
        (
            DEPLOYMENT.replace(
                "    spec:\n", "    base: &b {volumes: [{name: v}]}\n    spec:\n      <<: *b\n"
            ),
            9,
            "spec.template.spec.volumes comes through a merge key (<<)",
        ),
        (DEPLOYMENT.replace("metadata:\n  name: triton\n", ""), 1, "has no metadata"),
        (DEPLOYMENT + "        volumeMounts: 7\n", 13, "expected a list"),
        (
            DEPLOYMENT.replace(
                "name: triton\nspec", f"name: triton\n  annotations: {{{ANNOTATION}: '['}}\nspec"
            ),
            5,
            "can not be read",
        ),
    ],
)
def test_what_can_not_be_edited_safely_is_an_error(text: str, line: int, what: str) -> None:
    """With its line; nothing is edited through an alias, where two places would change."""
    with pytest.raises(ManifestError) as caught:
        injected(text)

    assert what in caught.value.what
    assert caught.value.line == line


def test_anchors_that_nobody_repeats_and_aliases_elsewhere_are_no_matter() -> None:
    """Labels are often written once and repeated."""
    text = DEPLOYMENT.replace("  name: triton\n", "  name: &n triton\n  labels: &l {app: *n}\n", 1)
    text = text.replace("    spec:\n", "    metadata: {labels: *l}\n    spec: &unused\n")

    assert len(deployed(text=text)["containers"]) == 2


def outcome(text: str, wishes: Wishes | None = None) -> Outcome:
    """The one object's outcome."""
    seen: list[Outcome] = []

    def edit(part: str, work: Workload) -> Outcome:
        seen.append(inject(part, work, wishes or Wishes()))
        return seen[-1]

    Stream(text).edited(edit)
    (only,) = seen
    return only


def test_what_is_not_clear_is_left_and_said() -> None:
    """Several Tritons, none, or a sidecar by another's hand."""
    two = outcome(DEPLOYMENT + TRITON.replace("name: triton", "name: second"))
    none = outcome(DEPLOYMENT.replace("tritonserver", "nginx"))
    by_hand = outcome(DEPLOYMENT + "      - {name: triton-probe, image: x}\n")

    assert two.fate is Fate.UNCLEAR
    assert two.told == (
        "several containers may run Triton: triton (by its image), second (by its image); choose with --container",
    )
    assert none.fate is Fate.LEFT
    assert none.told == ("has no container that runs Triton; found: triton",)
    assert by_hand.fate is Fate.UNCLEAR
    assert "inject did not write" in by_hand.told[0]
    assert outcome(DEPLOYMENT, Wishes(container="x")).fate is Fate.LEFT


def test_a_kind_that_is_not_known_is_named_where_it_seems_to_run_triton() -> None:
    """It goes through as it is."""
    text = (
        "apiVersion: x/v1\nkind: LeaderWorkerSet\nmetadata: {name: l}\ncontainers: [{image: tritonserver}]\n"
    )
    after, reports = Stream(text).edited(lambda *_: pytest.fail("nothing to edit"))

    assert after == text
    assert [(each.title, each.told) for each in reports] == [
        ("LeaderWorkerSet/l", ("left as it is: inject does not know LeaderWorkerSet",))
    ]


def test_a_container_that_was_renamed_since_is_an_error() -> None:
    """What was put into it can not be found any more."""
    renamed = injected(DEPLOYMENT)[0].replace("- name: triton\n", "- name: renamed\n")

    with pytest.raises(ManifestError, match="found no container triton, which the annotation"):
        Stream(renamed).edited(take_out)


PROBED = """\
apiVersion: v1
kind: Pod
metadata:
    name: triton
spec:
    containers:
    -   name: triton
        image: tritonserver
        livenessProbe:
            # why
            httpGet:
                path: /v2
                port: 8000

            periodSeconds: 7
        tty: true
"""


@pytest.mark.parametrize("indent", [2, 4, 8])
def test_a_probe_comes_back_into_a_manifest_that_was_indented_anew(indent: int) -> None:
    """As ``kubectl get`` and formatters do: with the lines as they were, moved to where they belong."""
    after = injected(PROBED, Wishes(gates=EVERY_GATE, existing=Existing.REPLACE))[0]
    anew = yaml.safe_dump(yaml.safe_load(after), indent=indent)
    back = Stream(anew).edited(take_out)[0]

    assert yaml.safe_load(back) == yaml.safe_load(PROBED)
    assert "# why\n" in back


def test_a_probe_that_can_not_come_back_is_an_error() -> None:
    """A block's lines in a manifest that is JSON by now: nothing is lost, and nothing is guessed."""
    after = injected(PROBED, Wishes(gates=EVERY_GATE, existing=Existing.REPLACE))[0]

    with pytest.raises(ManifestError, match=r"livenessProbe can not be put back .* written anew since"):
        Stream(json.dumps(yaml.safe_load(after), indent=1)).edited(take_out)


def test_a_list_on_one_line_is_read_item_by_item() -> None:
    """As ``jq -c`` prints it: an item costs what it is long, not what stands before it."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    pod["spec"] = {"containers": [{"name": "t", "image": "tritonserver"}]}
    text = json.dumps({"kind": "List", "apiVersion": "v1", "blank": "b" * 100_000, "items": [pod, pod]})
    seen: list[str] = []

    def edit(part: str, work: Workload) -> Outcome:
        seen.append(part)
        return inject(part, work, Wishes())

    after = Stream(text).edited(edit)[0]

    assert seen == [json.dumps(pod)] * 2
    assert [len(each["spec"]["containers"]) for each in json.loads(after)["items"]] == [2, 2]
    assert Stream(after).edited(take_out)[0] == text


@pytest.mark.parametrize(
    ("group", "kind"), [("serving.knative.dev/v1", "Service"), ("apps/v1", "Deployment")]
)
def test_a_container_without_a_name(group: str, kind: str) -> None:
    """Knative gives it one; it is found again, and everything comes out of it again."""
    spec = {"template": {"spec": {"containers": [{"image": "tritonserver"}]}}}
    text = yaml.safe_dump({"apiVersion": group, "kind": kind, "metadata": {"name": "n"}, "spec": spec})
    after = injected(text, Wishes(gates=EVERY_GATE))[0]

    assert "volumeMounts" in pod_of(after, "spec", "template", "spec")["containers"][0]
    assert Stream(after).edited(lambda part, work: inject(part, work, Wishes(gates=EVERY_GATE)))[0] == after


def test_a_pods_own_resources_decide_its_class() -> None:
    """No container changes it; but together they may ask for no more than it has."""
    pod = DEPLOYMENT.replace("{memory: 8Gi}", "{cpu: 4, memory: 8Gi}") + (
        "      resources: {limits: {cpu: 4, memory: 8Gi}}\n"
    )

    assert "cpu" not in deployed(text=pod)["containers"][1]["resources"]["limits"]
    assert "13: the pod has resources of its own" in advised(pod)


def test_what_another_object_makes_is_told() -> None:
    """As in the output of ``kubectl get all``."""
    owned = DEPLOYMENT.replace(
        "  name: triton\n",
        "  name: triton\n  ownerReferences: [{kind: Deployment, name: d, controller: true}]\n",
        1,
    )

    assert "5: belongs to Deployment/d" in advised(owned)


def test_comments_that_somebody_put_into_the_sidecar_stay() -> None:
    """Where nothing else is to be changed; with other options it is written anew."""
    once = injected(DEPLOYMENT)[0]
    commented = once.replace(
        "        image: triton-probe", "        # ours to pull\n        image: triton-probe"
    )
    assert commented != once

    def again(wishes: Wishes) -> str:
        return Stream(commented).edited(lambda part, work: inject(part, work, wishes))[0]

    assert again(Wishes()) == commented
    assert again(Wishes(port=9003)) == injected(DEPLOYMENT, Wishes(port=9003))[0]
    assert Stream(commented).edited(take_out)[0] == DEPLOYMENT


@pytest.mark.parametrize("existing", Existing)
def test_what_somebody_put_in_the_place_of_ours_is_theirs(existing: Existing) -> None:
    """A probe that asks Triton itself again, and a namespace that shall not be shared: neither goes nor changes."""
    wishes = Wishes(gates=(GateProbe.LIVENESS,), existing=existing)
    text = DEPLOYMENT + "        livenessProbe: {httpGet: {path: /old, port: 1}}\n" * (
        existing is Existing.REPLACE
    )
    after = injected(text, wishes)[0]
    ours = pod_of(after, "spec", "template", "spec")["containers"][0]["livenessProbe"]["httpGet"]
    assert ours == {"path": "/livez", "port": 8003}
    theirs = after.replace("path: /livez", "path: /v2/health/live").replace(
        "shareProcessNamespace: true", "shareProcessNamespace: false"
    )

    for edited in (
        Stream(theirs).edited(take_out)[0],
        Stream(theirs).edited(lambda part, work: inject(part, work, Wishes()))[0],
    ):
        pod = pod_of(edited, "spec", "template", "spec")
        assert pod["containers"][0]["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
        assert pod["shareProcessNamespace"] is False


@pytest.mark.parametrize(
    ("wishes", "requests", "limits"),
    [
        (Wishes(requests=Amounts(memory="1Gi")), "1Gi", "1Gi"),
        (Wishes(limits=Amounts(memory="64Mi")), "64Mi", "64Mi"),
        (Wishes(requests=Amounts(memory="100Mi")), "100Mi", "192Mi"),
        (Wishes(requests=Amounts(memory="1Gi"), limits=Amounts(memory="1G")), "1G", "1G"),
    ],
)
def test_no_request_is_above_its_limit(wishes: Wishes, requests: str, limits: str) -> None:
    """Kubernetes refuses such a pod: what the user told goes before what is chosen, and a limit before a request."""
    said = deployed(wishes)["containers"][1]["resources"]

    assert (said["requests"]["memory"], said["limits"]["memory"]) == (requests, limits)
    assert "cpu" not in said["limits"]
