"""What a pod's spec says, asked in words: containers, volumes, users, probes."""

from __future__ import annotations

import decimal
import re
from typing import Any

from probe.facts.wiring import SHM_PATH

_AMOUNT = re.compile(r"\+?([0-9]{1,20}(?:\.[0-9]{0,20})?)(m?|k|[KMGTPE]i|[MGTPE])")
_TIMES = {
    "m": decimal.Decimal("0.001"),
    "": decimal.Decimal(1),
    **{letter: decimal.Decimal(1000**power) for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": decimal.Decimal(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}


def mapping(value: Any) -> dict[str, Any]:  # noqa: ANN401  (any YAML)
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[dict[str, Any]]:  # noqa: ANN401  (any YAML)
    """The mappings of the value where it is a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def words(value: Any) -> list[str]:  # noqa: ANN401  (any YAML)
    """The texts of the value where it is a list, or the one text."""
    if isinstance(value, str):
        return [value]
    return [str(each) for each in value] if isinstance(value, list) else []


def name_of(value: Any) -> str:  # noqa: ANN401  (any YAML)
    """The name of a container or volume; Knative and KServe give one to a container that has none."""
    name = mapping(value).get("name")
    return name if isinstance(name, str) else ""


def arguments(container: dict[str, Any]) -> list[str]:
    """Command and arguments, as the container's process gets them."""
    return [*words(container.get("command")), *words(container.get("args"))]


def variables(container: dict[str, Any]) -> dict[str, str]:
    """Its environment, where a value is written."""
    found = {}
    for each in listed(container.get("env")):
        if isinstance(each.get("name"), str) and isinstance(each.get("value"), str):
            found[each["name"]] = each["value"]
    return found


def resources(container: dict[str, Any], which: str) -> dict[str, Any]:
    """Its ``requests`` or ``limits``."""
    return mapping(mapping(container.get("resources")).get(which))


def shm_mount(container: dict[str, Any]) -> dict[str, Any] | None:
    """The mount at /dev/shm, if it has one."""
    for each in listed(container.get("volumeMounts")):
        if str(each.get("mountPath", "")).rstrip("/") == SHM_PATH:
            return each
    return None


def guaranteed(pod: dict[str, Any]) -> bool:
    """Whether its QoS class is Guaranteed: CPU and memory limits everywhere, and requests no other.

    Source: Kubernetes, ``pkg/apis/core/v1/helper/qos``; a request that is not written is the limit.  Where the pod
    has resources of its own they alone decide, and no container changes its class.
    """
    if mapping(pod.get("resources")):
        return False
    containers = [*listed(pod.get("initContainers")), *listed(pod.get("containers"))]
    return bool(containers) and all(_held(each) for each in containers)


def _held(container: dict[str, Any]) -> bool:
    requests, limits = (resources(container, which) for which in ("requests", "limits"))
    return all(
        limits.get(name) is not None and amount(requests.get(name, limits[name])) == amount(limits[name])
        for name in ("cpu", "memory")
    )


def amount(said: object) -> decimal.Decimal | str:
    """A quantity as a number, for ``4`` is ``4000m``; as its text where it is none."""
    try:
        return number(str(said))
    except ValueError:
        return str(said)


def number(said: str) -> decimal.Decimal:
    """What a quantity of Kubernetes is worth.  Raises ValueError where it is none."""
    match = _AMOUNT.fullmatch(said)
    if match is None:
        raise ValueError(f"found {said}, expected a quantity such as 500m or 64Mi")
    return decimal.Decimal(match[1]) * _TIMES[match[2]]
