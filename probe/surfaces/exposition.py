"""Prometheus' two text formats: 0.0.4, and OpenMetrics 1.0 where it is asked for.

Written here rather than by ``prometheus_client``, whose encoder takes ten times as long (150 ms of a
loop that also answers kubelets, with 1,000 models) and 1.3 MiB more; tests parse every byte with it.
Rendering comes in steps, so that the caller's loop can answer others in between.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Generator, Iterable

import msgspec

from probe.facts.status import Histogram
from probe.surfaces.plain import encodable

Value = int | float | Histogram
Families = dict[str, dict[str, Value]]
"""Metric name → rendered labels → value; a label set can not occur twice."""

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_STEP = 500
"""Lines a step: less than half a millisecond."""
_SUFFIXES = {"counter": "_total", "info": "_info"}


class Metric(msgspec.Struct, frozen=True):
    """A metric as it is declared.  ``name`` is that of the text format; ``labels`` in their order."""

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str

    def family(self, *, openmetrics: bool) -> tuple[str, str]:
        """Name and type of its family: OpenMetrics names a counter without ``_total``."""
        if openmetrics:
            return self.name.removesuffix(_SUFFIXES.get(self.kind, "")), self.kind
        return self.name, "gauge" if self.kind == "info" else self.kind


def labels(**values: str) -> str:
    """Write label pairs without braces, each value escaped: ``model="a",version="1"``."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items())


def accepted(accept: str) -> str:
    """Choose the content type for an ``Accept`` header: OpenMetrics only where it is preferred."""
    best, chosen = 0.0, TEXT
    for each in accept.split(","):
        media, *parameters = (part.strip().lower() for part in each.split(";"))
        kind = {"application/openmetrics-text": OPENMETRICS, "text/plain": TEXT}.get(media)
        if kind and (quality := _quality(parameters)) > best:
            best, chosen = quality, kind
    return chosen


def gzip_accepted(accept_encoding: str) -> bool:
    """Tell whether an ``Accept-Encoding`` header takes gzip."""
    for each in accept_encoding.split(","):
        coding, *parameters = (part.strip().lower() for part in each.split(";"))
        if coding in ("gzip", "*") and _quality(parameters) > 0:
            return True
    return False


def compressed(body: bytes) -> bytes:
    """Compress at the lowest level, as repetitive text gains nothing from more; without a time stamp."""
    return gzip.compress(body, compresslevel=1, mtime=0)


def steps(metrics: Iterable[Metric], families: Families, content_type: str) -> Generator[None, None, bytes]:
    """Render in steps; the generator's return value is the body, and ``families`` is used up."""
    openmetrics = content_type == OPENMETRICS
    body = bytearray()
    for metric in metrics:
        # Taken out and written as bytes at once: with 1,000 models the strings of a scrape are 10 MiB.
        samples = families.pop(metric.name, None)
        if not samples:
            continue
        name, kind = metric.family(openmetrics=openmetrics)
        lines = [f"# HELP {name} {metric.says}\n", f"# TYPE {name} {kind}\n"]
        for labelled, value in samples.items():
            if isinstance(value, Histogram):
                lines += _histogram(metric.name, labelled, value)
            else:
                braced = f"{{{labelled}}}" if labelled else ""
                lines.append(f"{metric.name}{braced} {_number(value)}\n")
            if len(lines) >= _STEP:
                body += "".join(lines).encode("utf-8")
                lines.clear()
                yield
        body += "".join(lines).encode("utf-8")
        yield
    if openmetrics:
        body += b"# EOF\n"
    return bytes(body)


def _histogram(name: str, labelled: str, value: Histogram) -> list[str]:
    before = f"{labelled}," if labelled else ""
    braced = f"{{{labelled}}}" if labelled else ""
    lines, sofar = [], 0
    for bound, count in zip((*value.bounds, math.inf), value.counts, strict=False):
        sofar += count
        lines.append(f'{name}_bucket{{{before}le="{_number(float(bound))}"}} {sofar}\n')
    return [*lines, f"{name}_sum{braced} {_number(value.total)}\n", f"{name}_count{braced} {sofar}\n"]


def _number(value: float) -> str:
    return "+Inf" if value == math.inf else repr(value)


def _escaped(value: str) -> str:
    if value.isascii() and value.isalnum():
        return value
    return encodable(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _quality(parameters: list[str]) -> float:
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
