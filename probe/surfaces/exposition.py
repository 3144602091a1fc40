"""Prometheus' two text formats, as ``prometheus_client`` chooses and writes them."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import core
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from probe.facts.status import Histogram
from probe.surfaces.metric_names import METRICS, Metric
from probe.surfaces.plain import encodable

Labels = tuple[str, ...]
"""Label values, in the order in which the metric declares its labels."""

TEXT = choose_encoder("")[1]
OPENMETRICS = choose_encoder("application/openmetrics-text")[1]


class Sheet(Collector):
    """The samples of one scrape: what is None is absent, and one label set is one series, the last put."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, Histogram]] = {}
        for each in METRICS:
            (self._histograms if each.kind == "histogram" else self._numbers)[each.name] = {}

    def put(self, name: str, labels: Labels, value: float | None) -> None:
        """Note a number; ``name`` is without the common prefix.

        Raises KeyError for what was never declared, or is a histogram.
        """
        series = self._numbers[f"triton_probe_{name}"]
        # What is no number is not known: a NaN counter makes scrapers drop the whole answer.
        if value is not None and math.isfinite(value):
            series[tuple(map(encodable, labels))] = value

    def put_histogram(self, name: str, labels: Labels, value: Histogram) -> None:
        """Note a histogram, as :meth:`put` does a number."""
        series = self._histograms[f"triton_probe_{name}"]
        if math.isfinite(value.total):
            series[tuple(map(encodable, labels))] = value

    def collect(self) -> Iterator[core.Metric]:
        """Give each metric that has samples, and let go of them: with 1,000 models they are megabytes."""
        for metric in METRICS:
            if numbers := self._numbers.pop(metric.name, None):
                yield _numbers(metric, numbers)
            if histograms := self._histograms.pop(metric.name, None):
                yield _histograms(metric, histograms)


def accepted(accept: str) -> str:
    """Choose the content type for an ``Accept`` header: OpenMetrics where it is asked for.

    One of two, whatever version or escaping is asked for: no name here needs escaping.
    """
    try:
        _, chosen = choose_encoder(accept)
    except (TypeError, ValueError):  # the library compares whatever stands for a version with numbers
        return TEXT
    return OPENMETRICS if chosen.startswith("application/openmetrics-text") else TEXT


def rendered(sheet: Sheet, content_type: str) -> bytes:
    """Write the sheet, which is used up; 1,000 models take some hundred ms."""
    encode, _ = choose_encoder(content_type)
    return encode(sheet)


def compressed(body: bytes) -> bytes:
    """Compress at the lowest level, as repetitive text gains nothing from more; without a time stamp."""
    return gzip.compress(body, compresslevel=1, mtime=0)


def _numbers(metric: Metric, series: dict[Labels, float]) -> core.Metric:
    if metric.kind == "info":
        info = core.InfoMetricFamily(metric.name.removesuffix("_info"), metric.says, labels=metric.labels)
        for labels in series:
            info.add_metric(labels, {})
        return info
    kind = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
    family = kind(metric.name, metric.says, labels=metric.labels)
    for labels, value in series.items():
        family.add_metric(labels, value)
    return family


def _histograms(metric: Metric, series: dict[Labels, Histogram]) -> core.Metric:
    family = core.HistogramMetricFamily(metric.name, metric.says, labels=metric.labels)
    for labels, value in series.items():
        bounds = map(floatToGoString, (*value.bounds, math.inf))
        family.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=False)), value.total)
    return family
