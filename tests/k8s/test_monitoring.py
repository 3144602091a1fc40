"""Do the alerts fire when they should, and say what to do?"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from probe.engine.desk import SOURCES
from probe.facts import wiring
from probe.facts.catalogue import CATALOGUE
from probe.facts.findings import Severity
from probe.surfaces.metric_names import METRICS
from testbed.manifests.overlays import K8S
from testbed.tools import missing

MONITORING = K8S / "components/monitoring"
_OWN = Path(__file__).parents[2] / ".cache" / "tools" / "promtool"
_POD = '{job="triton-probe",namespace="ml",pod="triton-0"'


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    (group,) = yaml.safe_load((MONITORING / "rules.yaml").read_text("utf-8"))["spec"]["groups"]
    return list(group["rules"])


def promtool(*arguments: str | Path) -> str:
    """What it prints; the test fails where promtool does."""
    command = shutil.which("promtool") or shutil.which(_OWN)
    if command is None:
        missing("promtool; `tools/setup.sh test` unpacks one")
    done = subprocess.run(
        [command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    """The alerts as Prometheus reads them, without the object around them."""
    spec = yaml.safe_load((MONITORING / "rules.yaml").read_text("utf-8"))["spec"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(spec), "utf-8")
    return file


def test_prometheus_takes_the_rules(rule_file: Path) -> None:
    """Expressions and templates are well formed."""
    assert f"{len(rules())} rules found" in promtool("check", "rules", rule_file)


def test_every_alert_says_what_to_do() -> None:
    """Each has a severity, a summary without values, a description and a remedy."""
    for rule in rules():
        assert rule["labels"]["severity"] in set(Severity)
        assert rule["annotations"].keys() == {"summary", "description", "remedy"}
        assert "{{" not in rule["annotations"]["summary"]
        assert all(text.endswith(".") for text in rule["annotations"].values())


def test_alerts_rest_on_metrics_and_reasons_that_exist() -> None:
    """One that was renamed would never fire again, and nobody would know."""
    known = {metric.name: {"job", *metric.labels} for metric in METRICS}
    for rule in rules():
        for name, selector in re.findall(r"\b(triton_probe_\w+)\{([^}]*)\}", rule["expr"]):
            assert set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", selector)) <= known[name]
        for names in re.findall(r'reason!?[=~]+"([^"]+)"', rule["expr"]):
            assert set(names.split("|")) - CATALOGUE.keys() == set()
        for source in re.findall(r'source!?="([^"]+)"', rule["expr"]):
            assert source in SOURCES


def test_the_monitor_finds_the_sidecar_and_the_alerts_find_the_monitor() -> None:
    """Port and container are the wiring's; the job that every expression selects is the one that it sets."""
    spec = yaml.safe_load((MONITORING / "podmonitor.yaml").read_text("utf-8"))["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    keep, replace = endpoint["relabelings"]

    assert endpoint["port"] == wiring.PORT_NAME
    assert keep["regex"] == wiring.CONTAINER
    assert (replace["targetLabel"], replace["replacement"]) == ("job", "triton-probe")
    for rule in rules():
        selectors = re.findall(r"\b(?:up|triton_probe_\w+)(\{[^}]*\}|)", rule["expr"])
        assert selectors
        assert all('job="triton-probe"' in each for each in selectors)


SERIES: dict[str, dict[str, str]] = {
    "TritonProbeAbsent": {},
    "TritonProbeDown": {f"up{_POD}}}": "0x60"},
    "TritonNotReady": {
        f'triton_probe_gate{_POD},gate="ready"}}': "0x60",
        f'triton_probe_gate{_POD},gate="startup"}}': "1x60",
    },
    "TritonStartsForLong": {
        f'triton_probe_gate{_POD},gate="ready"}}': "0x60",
        f'triton_probe_gate{_POD},gate="startup"}}': "0x60",
    },
    "TritonFinding": {
        f'triton_probe_finding{_POD},reason="StubDead",severity="critical",model="m"}}': "1x60"
    },
    "TritonModelNotOnItsGpu": {
        f'triton_probe_finding{_POD},reason="CpuFallback",severity="critical",model="m"}}': "1x60"
    },
    "TritonOutOfMemory": {f'triton_probe_findings_total{_POD},reason="OomKilled"}}': "0x50 1x9"},
    "TritonRestartBudgetSpent": {
        f'triton_probe_finding{_POD},reason="RestartBudgetSpent",severity="critical"}}': "1x60"
    },
    "TritonProbeBlind": {f'triton_probe_source_up{_POD},source="processes"}}': "0x60"},
}
"""For each alert a story of an hour, a sample a minute, at the end of which it alone fires."""
QUIET = {
    f"up{_POD}}}": "1x60",
    f'triton_probe_gate{_POD},gate="ready"}}': "1x60",
    f'triton_probe_gate{_POD},gate="startup"}}': "1x60",
    f'triton_probe_finding{_POD},reason="NvmlUnavailable",severity="warning"}}': "1x60",
    f'triton_probe_findings_total{_POD},reason="OomKilled"}}': "3x60",
    f'triton_probe_source_up{_POD},source="processes"}}': "1x60",
    f'triton_probe_source_up{_POD},source="nvml"}}': "0x60",
}
"""A pod without NVML in which all is well."""


def test_every_alert_has_a_story() -> None:
    """One that is added is seen to fire."""
    assert [rule["alert"] for rule in rules()] == list(SERIES)


def test_each_alert_fires_in_its_own_story_alone(rule_file: Path) -> None:
    """And none in a pod that is well; at the end of an hour, by Prometheus' own evaluation."""
    stories = {"": QUIET, **SERIES}
    tests = []
    for story, series in stories.items():
        told = series if story == "TritonProbeAbsent" else {**QUIET, **series}
        fires = [{"eval_time": "1h", "alertname": name, "exp_alerts": []} for name in SERIES if name != story]
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in told.items()],
                "alert_rule_test": fires,
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{story}",alertstate="firing"}})',
                        "eval_time": "1h",
                        "exp_samples": [{"labels": "{}", "value": 1}] if story else [],
                    }
                ],
            }
        )
    file = rule_file.with_name("tests.yaml")
    file.write_text(
        yaml.safe_dump({"rule_files": [rule_file.name], "evaluation_interval": "1m", "tests": tests})
    )

    assert "SUCCESS" in promtool("test", "rules", file)


def test_each_alert_ends_with_its_story(rule_file: Path) -> None:
    """An hour after all is well again, none fires: none rests on what only a person could clear."""
    tests = []
    for story, series in SERIES.items():
        before = {name: "_x60" if story == "TritonProbeAbsent" else values for name, values in QUIET.items()}
        told = {name: f"{values} {QUIET.get(name, '_x60')}" for name, values in {**before, **series}.items()}
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in told.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{story}",alertstate="firing"}})',
                        "eval_time": "59m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    },
                    {"expr": "ALERTS", "eval_time": "2h", "exp_samples": []},
                ],
            }
        )
    file = rule_file.with_name("tests.yaml")
    file.write_text(
        yaml.safe_dump({"rule_files": [rule_file.name], "evaluation_interval": "1m", "tests": tests})
    )

    assert "SUCCESS" in promtool("test", "rules", file)
