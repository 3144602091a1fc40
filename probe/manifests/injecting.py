"""Putting the sidecar into one object: what is decided, and in which order it is written."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from probe.facts import wiring
from probe.facts.wiring import Amounts, Resources
from probe.manifests import sidecar
from probe.manifests.advice import Advice, advice
from probe.manifests.drafts import Draft, Path
from probe.manifests.errors import ManifestError
from probe.manifests.pods import guaranteed, mapping, shm_mount
from probe.manifests.records import Scribe, record_of
from probe.manifests.removing import PREDICTORS, remove, sidecar_place
from probe.manifests.triton import Found, Ports, containers, kserve_runtime, ports, tritons
from probe.manifests.users import identity
from probe.manifests.wishes import Existing, GateProbe, Native, Wishes
from probe.manifests.workloads import Platform, Workload

_MOUNTED = "volumeMounts"


class Fate(enum.Enum):
    """What became of an object."""

    INJECTED = "injected"
    REMOVED = "removed"
    LEFT = "left"
    """Nothing of it runs Triton."""
    UNCLEAR = "unclear"
    """It could not be told which container runs Triton, or the sidecar is there by another's hand."""


class Outcome(msgspec.Struct, frozen=True):
    """An object's new text, and what to tell of it: changes, and advice with the line that it is about."""

    text: str
    fate: Fate
    told: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()


def inject(text: str, work: Workload, wishes: Wishes, runtimes: frozenset[str] = frozenset()) -> Outcome:
    """The object with the sidecar, as if it had none yet.  Raises ManifestError; nothing is done by halves.

    ``runtimes`` are the serving runtimes of Triton in the same run: what they carry, an InferenceService does not.
    """
    draft = Draft(text)
    before = None
    place = sidecar_place(draft, work)
    record = record_of(draft)
    if record is not None:
        before = draft.read(place) if place is not None else None
        remove(draft, work, record)
    elif place is not None:
        return Outcome(text, Fate.UNCLEAR, (_by_another(),))
    bare = draft.text
    said = draft.read()
    found = tritons(said, work, wishes.container, runtimes)
    if len(found) != 1:
        return _unclear(text, said, work, wishes, found)
    writing = _Writing(draft, work, wishes, found[0])
    if kserve_runtime(found[0], work) in runtimes:
        writing.share()
    else:
        writing.everything(before)
    if writing.scribe.record.made or writing.scribe.record.null or writing.written:
        writing.scribe.sign()
    _check_undone(draft, work, bare)
    return Outcome(draft.text, Fate.INJECTED, tuple(writing.told), tuple(writing.advice))


def take_out(text: str, work: Workload) -> Outcome:
    """The object as it was before.  Raises ManifestError."""
    draft = Draft(text)
    record = record_of(draft)
    if record is None:
        there = sidecar_place(draft, work) is not None
        return Outcome(text, Fate.UNCLEAR if there else Fate.LEFT, (_by_another(),) if there else ())
    remove(draft, work, record)
    return Outcome(draft.text, Fate.REMOVED, ("took out what inject had put in",))


def _check_undone(draft: Draft, work: Workload, bare: str) -> None:
    """What can not be taken out byte for byte is not put in."""
    copy = Draft(draft.text)
    record = record_of(copy)
    if record is not None:
        remove(copy, work, record)
    if copy.text != bare:
        raise ManifestError(draft.line(work.pod), "is written in a way that inject could not undo exactly")


def _by_another() -> str:
    return (
        f"has a container {wiring.CONTAINER} that inject did not write (no annotation {wiring.ANNOTATION}): "
        "left as it is"
    )


def _unclear(text: str, said: Any, work: Workload, wishes: Wishes, found: list[Found]) -> Outcome:  # noqa: ANN401
    if found:
        names = ", ".join(f"{each.name or '(no name)'} ({each.how})" for each in found)
        return Outcome(
            text, Fate.UNCLEAR, (f"several containers may run Triton: {names}; choose with --container",)
        )
    names = ", ".join(each.name or "(no name)" for each in containers(said, work)) or "none"
    wanted = "" if wishes.container is None else f" of the name {wishes.container}"
    return Outcome(text, Fate.LEFT, (f"has no container{wanted} that runs Triton; found: {names}",))


class _Writing:
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
        self.advice += advice(self._draft, work, self._triton, self._wishes, self._listening())
        self._sidecar(before)
        if work.platform is Platform.KNATIVE:
            self.advice.append(_knative(work.pod))
        elif work.platform is Platform.RUNTIME:
            self.advice.append(_runtime(work.pod))
        else:
            self.share()
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

    def _listening(self) -> Ports:
        asked = kserve_runtime(self._triton, self._work)
        return ports(self._triton.said, kserve_runtime=asked is not None and asked.startswith("kserve-"))

    def _sidecar(self, before: dict[str, Any] | None) -> None:
        who = identity(self._pod, self._triton.said, self._wishes.user)
        native = self._native()
        made = sidecar.container(
            sidecar.Sidecar(
                image=self._wishes.image,
                ports=self._listening(),
                security=who.security,
                resources=self._resources(),
                port=self._wishes.port,
                native=native,
                serverless=self._work.platform is Platform.KNATIVE,
            ),
            before,
        )
        self.scribe.item((*self._work.pod, "initContainers" if native else "containers"), made)
        self.written = True
        form = "native sidecar" if native else "container"
        self.told.append(
            f"added the {form} {wiring.CONTAINER} ({self._wishes.image}) beside Triton's container "
            f"{self._triton.name or '(no name)'} (found {self._triton.how})"
        )
        self.told.append(f"runs as {who.why}")
        if who.cure:
            self.advice.append(Advice(self._triton.path, who.cure))

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
        base = wiring.GUARANTEED if guaranteed(self._pod) else wiring.RESOURCES
        if base is wiring.GUARANTEED and wishes.requests is None and wishes.limits is None:
            self.told.append(
                "its requests are its limits, for the pod's QoS class is Guaranteed and stays so"
            )
        return Resources(_over(base.requests, wishes.requests), _over(base.limits, wishes.limits))

    def _shm(self) -> None:
        if self._wishes.shm is None or shm_mount(self._triton.said) is not None:
            return
        if self._pod.get("hostIPC") is True:
            return
        self.scribe.item((*self._work.pod, "volumes"), sidecar.volume(self._wishes.shm))
        self.scribe.item((*self._triton.path, _MOUNTED), sidecar.mount())
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
