"""What is put into one object, and in which order: the sidecar, the process namespace, /dev/shm, the gates."""

from __future__ import annotations

from typing import Any

from probe.facts import wiring
from probe.facts.wiring import Amounts, Resources
from probe.manifests import sidecar
from probe.manifests.advice import Advice, advice, first_process
from probe.manifests.drafts import Draft, Path
from probe.manifests.pods import guaranteed, listed, mapping, number, resources, shm_mount, variables
from probe.manifests.records import NVML, SHM, Scribe
from probe.manifests.removing import PREDICTORS
from probe.manifests.triton import Found, asked_runtime, in_predictor, ports
from probe.manifests.users import Identity, User, identity
from probe.manifests.wishes import Existing, GateProbe, Native, Nvml, Wishes
from probe.manifests.workloads import Platform, Workload, stated_mode

_WITHOUT_NVML = (
    "Triton has a GPU, and the sidecar no NVML: where models run is told with less evidence, and no Xid is heard. "
    "Where NVIDIA's runtime is the default one add --nvml env, with the GPU Operator from 25.10 on --nvml runtime-class"
)


class Placing:
    """One object while it is written; what is told is in the past tense, for it is printed when all is well."""

    def __init__(self, draft: Draft, work: Workload, wishes: Wishes, triton: Found) -> None:
        self._draft = draft
        self._work = work
        self._wishes = wishes
        self._triton = triton
        self._pod = mapping(draft.read(work.pod))
        self.scribe = Scribe(draft, PREDICTORS.get(str(triton.path[-1]), triton.name))
        self.told: list[str] = []
        self.advice: list[Advice] = []
        self.written = False

    def everything(self, before: dict[str, Any] | None) -> None:
        """The sidecar and all that it needs."""
        work = self._work
        self.advice += advice(self._draft, work, self._triton, self._wishes, ports(self._triton.said))
        self._sidecar(before)
        if work.platform is Platform.KNATIVE:
            self.advice.append(_knative(work.pod))
        elif work.platform is Platform.RUNTIME:
            self.advice.append(_runtime(work.pod))
        else:
            if work.platform is Platform.PREDICTOR and not stated_mode(self._draft.read()):
                self.advice.append(_mode())
            self.share()
        self._nvml(before or {})
        self._shm()
        self._gates()

    def share(self) -> None:
        """One process namespace for the pod."""
        path = (*self._work.pod, "shareProcessNamespace")
        said = self._draft.read(path)
        if self._pod.get("hostPID") is True:  # Kubernetes refuses both; the advice on hostPID says so
            return
        if said is False:
            self.advice.append(
                Advice(
                    path,
                    "shareProcessNamespace is false: the probe sees none of Triton's processes (no StubDead, no "
                    "placement). Set it to true, or take the line out and run inject again",
                )
            )
        elif said is None:
            self.scribe.field(path, True)
            self.told.append("added shareProcessNamespace: true")
            self.advice += first_process(self._pod, self._work)

    def _sidecar(self, before: dict[str, Any] | None) -> None:
        who = self._identity()
        native = self._native()
        made = sidecar.container(
            sidecar.Sidecar(
                image=self._wishes.image,
                ports=ports(self._triton.said),
                security=who.security,
                resources=self._resources(),
                port=self._wishes.port,
                native=native,
                serverless=self._work.platform is Platform.KNATIVE,
                nvml=self._wishes.nvml is not Nvml.NONE,
            ),
            before,
        )
        self.scribe.item((*self._work.pod, "initContainers" if native else "containers"), made)
        self.written = True
        form = "native sidecar" if native else "container"
        self.told.append(
            f"added the {form} {wiring.CONTAINER} ({self._wishes.image}) beside "
            f"{self._triton.name or '(no name)'} (found {self._triton.how})"
        )
        self.told.append(f"runs as {who.why}")
        if who.cure:
            self.advice.append(Advice(self._triton.path, who.cure))

    def _identity(self) -> Identity:
        runtime = asked_runtime(self._triton, self._work)
        security = mapping(self._triton.said.get("securityContext"))
        if runtime and "runAsUser" not in {**mapping(self._pod.get("securityContext")), **security}:
            told = self._wishes.user or User(wiring.USER, wiring.USER)
            who = identity(self._pod, self._triton.said, told)
            why = f"uid {wiring.USER}: what the serving runtime {runtime} says is not known here"
            cure = f"where the serving runtime {runtime} runs as another user, say so with --user UID:GID"
            return who if self._wishes.user else Identity(who.security, why, cure)
        return identity(self._pod, self._triton.said, self._wishes.user)

    def _native(self) -> bool:
        work, wishes = self._work, self._wishes
        allowed = work.platform in (Platform.KUBERNETES, Platform.PREDICTOR)
        new_enough = wishes.kubernetes is None or wishes.kubernetes >= wiring.FIRST_NATIVE
        if wishes.native is Native.ALWAYS:
            if not allowed:
                self.advice.append(Advice(work.pod, f"no native sidecar: {work.platform.value}, allows none"))
            elif not new_enough:
                self.advice.append(
                    Advice(
                        work.pod, "a native sidecar needs Kubernetes 1.29: an older one waits for it to end"
                    )
                )
            return allowed
        if wishes.native is Native.NEVER or not allowed or not new_enough:
            native = False
        else:
            native = work.ends or wishes.kubernetes is not None
        if work.ends and not native:
            self.advice.append(
                Advice(
                    work.pod,
                    f"a {work.kind} does not end while a plain sidecar runs: use --native always (1.29)",
                )
            )
        return native

    def _resources(self) -> Resources:
        wishes = self._wishes
        pod = self._pod
        if in_predictor(self._triton, self._work):
            pod = {**pod, "containers": [*listed(pod.get("containers")), self._triton.said]}
        base = wiring.GUARANTEED if guaranteed(pod) else wiring.RESOURCES
        if base is wiring.GUARANTEED and wishes.requests is None and wishes.limits is None:
            self.told.append(
                "its requests are its limits, for the pod's QoS class is Guaranteed and stays so"
            )
        requests, limits = _over(base.requests, wishes.requests), _over(base.limits, wishes.limits)
        told = wishes.limits or Amounts()
        return Resources(
            Amounts(
                cpu=_least(requests.cpu, told.cpu),
                memory=_least(requests.memory, told.memory),
            ),
            Amounts(
                cpu=limits.cpu and (told.cpu or _most(limits.cpu, requests.cpu)),
                memory=limits.memory and (told.memory or _most(limits.memory, requests.memory)),
            ),
        )

    def _nvml(self, before: dict[str, Any]) -> None:
        wishes, path = self._wishes, (*self._work.pod, "runtimeClassName")
        if wishes.nvml is Nvml.NONE:
            gpus = [
                name for name in resources(self._triton.said, "limits") if str(name).startswith("nvidia.com/")
            ]
            if gpus and wiring.NVML_VARIABLES.keys().isdisjoint(variables(before)):
                self.advice.append(Advice(self._triton.path, _WITHOUT_NVML))
            return
        self.scribe.record.made.append(NVML)
        self.told.append(
            "gave the sidecar the driver's library by NVIDIA_VISIBLE_DEVICES, which reserves no GPU"
        )
        if wishes.nvml is not Nvml.CLASS or self._draft.read(path) is not None:
            return
        if self._work.platform in (Platform.KNATIVE, Platform.RUNTIME):
            self.advice.append(
                Advice(path, f"no runtimeClassName: {self._work.platform.value}, allows none here")
            )
            return
        self.scribe.field(path, wiring.RUNTIME_CLASS)
        self.told.append(f"added runtimeClassName: {wiring.RUNTIME_CLASS}")

    def _shm(self) -> None:
        if self._wishes.shm is None or shm_mount(self._triton.said) is not None:
            return
        if self._pod.get("hostIPC") is True:
            return
        volumes: Path = (*self._work.pod, "volumes")
        if any(each.get("name") == wiring.SHM_VOLUME for each in listed(self._pod.get("volumes"))):
            self.advice.append(
                Advice(
                    volumes,
                    f"a volume {wiring.SHM_VOLUME} is there, and not by inject: mount it at {wiring.SHM_PATH}",
                )
            )
            return
        self.scribe.record.made.append(SHM)
        self.scribe.item(volumes, sidecar.volume(self._wishes.shm))
        self.scribe.item((*self._triton.path, "volumeMounts"), sidecar.mount())
        self.told.append(
            f"added a volume of {self._wishes.shm} in memory at {wiring.SHM_PATH}, which is 64Mi without"
        )

    def _gates(self) -> None:
        for gate in GateProbe:
            if gate in self._wishes.gates:
                self._gate(gate)

    def _gate(self, gate: GateProbe) -> None:
        path: Path = (*self._triton.path, gate.key)
        if self._work.platform is Platform.KNATIVE:
            self.advice.append(Advice(path, f"{gate.key} not wired: Knative asks the serving port alone"))
            return
        if ports(self._triton.said).grpc is None:
            self.advice.append(
                Advice(path, f"{gate.key} not wired: without Triton's gRPC the gate would never open")
            )
            return
        there = self._draft.read(path)
        if there and self._wishes.existing is Existing.KEEP:
            self.advice.append(
                Advice(
                    path,
                    f"{gate.key} not wired: Triton's own is kept; --existing replace puts it in its place",
                )
            )
            return
        self.scribe.field(path, sidecar.probe(gate.timing, self._wishes.port))
        how = "replaced" if there else "added"
        self.told.append(f"{how} {gate.key}: {gate.timing.path} on port {self._wishes.port}")


def _over(base: Amounts, told: Amounts | None) -> Amounts:
    if told is None:
        return base
    return Amounts(cpu=told.cpu or base.cpu, memory=told.memory or base.memory)


def _least(request: str | None, limit: str | None) -> str | None:
    """A request that is no larger than the limit that the user told, for Kubernetes refuses such a pod."""
    above = request is not None and limit is not None and number(request) > number(limit)
    return limit if above else request


def _most(limit: str, request: str | None) -> str:
    """A limit that has room for the request."""
    return request if request is not None and number(request) > number(limit) else limit


def _knative(pod: Path) -> Advice:
    return Advice(
        pod,
        "Knative allows no shared process namespace, no second port and no probes of a sidecar: what is left are "
        "Triton's own answers, the driver, and /metrics and /status on the pod's address, for alerts. For gates and "
        "stub processes use KServe's Standard mode (serving.kserve.io/deploymentMode: Standard)",
    )


def _runtime(pod: Path) -> Advice:
    return Advice(
        pod,
        "a serving runtime can not share the process namespace: set spec.predictor.shareProcessNamespace: true in "
        "each InferenceService that uses it (inject does so where both are in one run)",
    )


def _mode() -> Advice:
    return Advice(
        ("metadata",),
        "no deployment mode is written, and KServe's default as it is installed is Serverless, where Knative refuses "
        "shareProcessNamespace. Set the annotation serving.kserve.io/deploymentMode: Standard (RawDeployment before "
        "0.16), or use --knative",
    )
