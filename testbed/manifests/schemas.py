"""Would an API server take this object?  By Kubernetes' own schemas, and by those of the custom resources.

The schemas of core objects come with ``kubernetes-validate``; those of KServe and of Prometheus Operator lie in
``../shared/crds`` beside this project where they are at hand.  Both refuse a field that they do not know: an API
server would take it away without a word.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

CUSTOM = Path(__file__).parents[3] / "shared" / "crds"
"""Definitions of custom resources, as their projects publish them."""
RELEASES = ("1.29", "1.32", "1.37")
"""The first with native sidecars, one of those in the field, and the newest that has a schema."""
CUSTOM_GROUPS = ("serving.kserve.io", "monitoring.coreos.com")


def is_custom(thing: dict[str, Any]) -> bool:
    """Whether a custom resource: core schemas say nothing of it."""
    return thing["apiVersion"].partition("/")[0] in CUSTOM_GROUPS


def complaints(thing: dict[str, Any], release: str) -> str | None:
    """What this release of Kubernetes has against a core object, or None.  Unknown kinds are a complaint too."""
    try:
        kubernetes_validate.validate(thing, release, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{release}: {'.'.join(map(str, error.absolute_path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return str(error.message)
    return None


def custom_complaints(thing: dict[str, Any]) -> str | None:
    """What its definition has against a custom resource, or None.  Needs ``CUSTOM``."""
    validator = _validators().get((thing["apiVersion"], thing["kind"]))
    if validator is None:
        return f"no definition of {thing['kind']} in {thing['apiVersion']}"
    for error in validator.iter_errors(thing):
        return f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
    return None


@functools.cache
def _validators() -> dict[tuple[str, str], Any]:
    return dict(_read())


def _read() -> Iterator[tuple[tuple[str, str], Any]]:
    for path in sorted(CUSTOM.glob("*.yaml")):
        spec = yaml.load(path.read_bytes(), yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            _close(schema)
            schema["properties"]["metadata"] = {"type": "object"}  # the API server's own affair
            name = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            yield name, jsonschema.Draft202012Validator(schema)


def _close(schema: Any) -> None:  # noqa: ANN401 - any part of a schema
    """Let it refuse what it does not name, unless it says that it keeps such fields."""
    if isinstance(schema, list):
        for each in schema:
            _close(each)
    elif isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for key, each in schema.items():
            if key == "properties":
                for named in each.values():
                    _close(named)
            else:
                _close(each)
