"""Does a cluster accept what inject writes?"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from probe.manifests.injecting import inject
from probe.manifests.streams import Stream
from probe.manifests.wishes import GateProbe, Native, Wishes
from tests.manifests.test_injecting import DEPLOYMENT, RUNTIME, inference

CRDS = Path(__file__).parents[3] / "shared" / "crds"
RELEASES = ("1.29", "1.32", "1.37")
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
        kubernetes_validate.validate(injected(text, wishes), release, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            injected(text + "        unknown: 1\n", EVERYTHING[0]), release, strict=True
        )


@functools.cache
def schema(name: str) -> Any:  # noqa: ANN401  (JSON)
    """The schema of a custom resource, in which fields that it does not know are errors."""
    path = CRDS / f"serving.kserve.io_{name}.yaml"
    if not path.exists():
        pytest.skip(f"the schema {name} is not here: it lies beside the project, in ../shared/crds")
    (version,) = yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)["spec"]["versions"]
    return closed(version["schema"]["openAPIV3Schema"])


def closed(found: Any) -> Any:  # noqa: ANN401  (JSON)
    """The schema with nothing allowed that it does not name."""
    if isinstance(found, list):
        return [closed(each) for each in found]
    if not isinstance(found, dict):
        return found
    made = {key: closed(value) for key, value in found.items()}
    if "properties" in found and "x-kubernetes-preserve-unknown-fields" not in found:
        made.setdefault("additionalProperties", False)
    return made


@pytest.mark.parametrize(("name", "text"), [("inferenceservices", inference()), ("servingruntimes", RUNTIME)])
def test_kserve_takes_it(name: str, text: str) -> None:
    """By its own schema."""
    for wishes in EVERYTHING:
        value = json.loads(json.dumps(injected(text, wishes)))
        del value["metadata"]
        shape = schema(name)
        shape["properties"].pop("metadata", None)
        jsonschema.Draft202012Validator(shape).validate(value)
