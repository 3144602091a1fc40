"""Does a cluster accept what inject writes?"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from probe.manifests.injecting import inject
from probe.manifests.streams import Stream
from probe.manifests.wishes import GateProbe, Native, Wishes
from testbed.manifests.schemas import CUSTOM, RELEASES, complaints, custom_complaints
from tests.manifests.test_injecting import DEPLOYMENT, RUNTIME, inference

EVERYTHING = [
    Wishes(gates=tuple(GateProbe)),
    Wishes(gates=tuple(GateProbe), native=Native.ALWAYS, port=9003, shm="2Gi"),
]


def injected(text: str, wishes: Wishes) -> Any:  # noqa: ANN401  (any object)
    """The object with the sidecar."""
    return yaml.safe_load(Stream(text).edited(lambda part, work: inject(part, work, wishes))[0])


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_takes_it(release: str) -> None:
    """By its own schema, with no field that it does not know."""
    text = DEPLOYMENT.replace("spec:\n  template:\n", "spec:\n  selector: {}\n  template:\n", 1)
    for wishes in EVERYTHING:
        assert complaints(injected(text, wishes), release) is None
    assert "unknown" in str(complaints(injected(text + "        unknown: 1\n", EVERYTHING[0]), release))


@pytest.mark.parametrize("text", [inference(), RUNTIME], ids=["service", "runtime"])
def test_kserve_takes_it(text: str) -> None:
    """By its own definitions."""
    if not CUSTOM.is_dir():
        pytest.skip("the definitions of custom resources are not at hand (crds beside this project)")
    for wishes in EVERYTHING:
        assert custom_complaints(injected(text, wishes)) is None
