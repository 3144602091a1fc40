"""Manifests as people write them: one object in any style that YAML has for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

WORDS = st.sampled_from(
    ["plain", "two words", "it's", 'a "b"', "no", "1.0", "", "null", "#c", "a: b", "naïve", "-x"]
)

_SCALARS = st.one_of(WORDS, st.integers(-5, 9000), st.booleans(), st.none())
_EXTRAS = st.dictionaries(
    st.sampled_from(["tolerations", "nodeSelector", "priority", "x-notes", "hostname"]),
    st.recursive(
        _SCALARS,
        lambda below: st.one_of(
            st.lists(below, max_size=3),
            st.dictionaries(st.sampled_from(["key", "other", "third"]), below, max_size=3),
        ),
        max_leaves=6,
    ),
    max_size=3,
)
_VOLUME = {"name": "models", "emptyDir": {}}
_MOUNT = {"name": "models", "mountPath": "/models"}
_PROBE = {"httpGet": {"path": "/v2/health/ready", "port": 8000}, "periodSeconds": 3}


@st.composite
def deployments(draw: DrawFn) -> dict[str, Any]:
    """A Deployment of one Triton, with whatever a manifest may have or lack around it."""
    triton = {"name": "server", "image": "example/tritonserver:24.10", **draw(_EXTRAS)}
    fields: list[tuple[str, tuple[Any, ...]]] = [
        ("volumeMounts", (None, [], [_MOUNT], [_MOUNT, {"name": "fast", "mountPath": "/dev/shm/"}])),
        ("readinessProbe", (None, {}, _PROBE)),
        ("livenessProbe", (None, _PROBE)),
        ("startupProbe", (_PROBE,)),
        ("args", (["tritonserver", "--http-port=9000"],)),
        ("securityContext", (None, {"runAsUser": 1000}, {"runAsUser": 7, "runAsGroup": 8})),
    ]
    for name, values in fields:
        if draw(st.booleans()):
            triton[name] = draw(st.sampled_from(values))
    others: list[dict[str, Any]] = (
        [{"name": "other", "image": "nginx", **draw(_EXTRAS)}] if draw(st.booleans()) else []
    )
    pod: dict[str, Any] = {**draw(_EXTRAS), "containers": draw(st.permutations([triton, *others]))}
    fields = [
        ("volumes", (None, [], [_VOLUME])),
        ("shareProcessNamespace", (None, True, False)),
        ("initContainers", (None, [], [{"name": "fetch", "image": "busybox"}])),
    ]
    for name, values in fields:
        if draw(st.booleans()):
            pod[name] = draw(st.sampled_from(values))
    metadata: dict[str, Any] = {"name": "triton"}
    if draw(st.booleans()):
        metadata["annotations"] = draw(st.sampled_from([None, {}, {"a/b": "c"}]))
    spec = {"replicas": 2, "template": {"metadata": {"labels": {"app": "t"}}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


@st.composite
def written(draw: DrawFn, value: dict[str, Any]) -> str:
    """The object as YAML in a random style, or as JSON; it reads as the value, whatever else is in the text."""
    eol = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    if draw(st.integers(0, 4)) == 0:
        return json.dumps(value, indent=draw(st.sampled_from([None, 2, 4]))).replace("\n", eol)
    writer = _Writer(draw)
    text = "\n".join([*writer.comments(0), *writer.mapping(value, 0), *writer.comments(0)])
    if draw(st.booleans()):
        text = f"---\n{text}"
    if draw(st.booleans()):
        text += "\n"
    return text.replace("\n", eol)


class _Writer:
    """Lines of blocks; what is inside of braces is on one line, or spread over several."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw
        self._step = draw(st.integers(1, 4))
        self._dash = draw(st.sampled_from([0, self._step]))
        self._after_dash = draw(st.integers(1, 3))

    def comments(self, indent: int) -> list[str]:
        """None, mostly; else a comment, or a blank line."""
        kind = self._draw(st.integers(0, 9))
        return [f"{' ' * indent}# - name: {kind}"] if kind == 0 else [""] if kind == 1 else []

    def mapping(self, value: Mapping[str, Any], indent: int) -> list[str]:
        """The lines of a block mapping."""
        lines: list[str] = []
        for key, each in value.items():
            lines += self.comments(indent)
            head = f"{' ' * indent}{self._key(key)}:"
            lines += self._value(head, each, indent)
        return lines

    def _value(self, head: str, value: Any, indent: int) -> list[str]:  # noqa: ANN401  (any YAML)
        flow = self._draw(st.integers(0, 6)) == 0
        after = self._draw(st.sampled_from(["", "", "  # why"]))
        if isinstance(value, dict) and value and not flow:
            return [head + after, *self.mapping(value, indent + self._step)]
        if isinstance(value, list) and value and not flow:
            return [head + after, *self._list(value, indent + self._dash)]
        if value is None and self._draw(st.booleans()):
            return [head + after]
        if (
            isinstance(value, str)
            and value.isascii()
            and value.isalpha()
            and self._draw(st.integers(0, 3)) == 0
        ):
            return [f"{head} |-", f"{' ' * (indent + self._step)}{value}"]
        return [f"{head} {self._flow(value, indent)}{after}"]

    def _list(self, value: list[Any], indent: int) -> list[str]:
        lines: list[str] = []
        for each in value:
            lines += self.comments(indent)
            dash = f"{' ' * indent}-"
            if isinstance(each, dict) and each and self._draw(st.integers(0, 6)):
                inner = self.mapping(each, indent + 1 + self._after_dash)
                first = next(index for index, line in enumerate(inner) if line.strip() and "# -" not in line)
                compact = first == 0 and self._draw(st.integers(0, 6))
                lines += [dash + inner[0][indent + 1 :], *inner[1:]] if compact else [dash, *inner]
            else:
                lines.append(f"{dash} {self._flow(each, indent)}")
        return lines

    def _flow(self, value: Any, indent: int) -> str:  # noqa: ANN401  (any YAML)
        if isinstance(value, dict):
            pairs = [f"{self._key(key)}: {self._flow(each, indent + 2)}" for key, each in value.items()]
            return self._braces("{", pairs, "}", indent)
        if isinstance(value, list):
            return self._braces("[", [self._flow(each, indent + 2) for each in value], "]", indent)
        return self._scalar(value)

    def _braces(self, opening: str, parts: list[str], closing: str, indent: int) -> str:
        if parts and self._draw(st.integers(0, 3)) == 0:
            inner = f",\n{' ' * (indent + self._step + 1)}".join(parts)
            last = self._draw(st.sampled_from(["", ","]))
            return f"{opening}\n{' ' * (indent + self._step + 1)}{inner}{last}\n{' ' * (indent + 1)}{closing}"
        blank = self._draw(st.sampled_from(["", " "]))
        return f"{opening}{blank}{', '.join(parts)}{blank}{closing}"

    def _key(self, key: str) -> str:
        return self._draw(st.sampled_from([key, key, f'"{key}"', f"'{key}'"]))

    def _scalar(self, value: object) -> str:
        if isinstance(value, str):
            forms = [json.dumps(value, ensure_ascii=self._draw(st.booleans()))]
            if value.isprintable():
                forms.append("'{}'".format(value.replace("'", "''")))
            if value.replace("/", "").isalpha() and yaml.safe_load(value) == value:
                forms.append(value)
            return self._draw(st.sampled_from(forms))
        return json.dumps(value)
