from __future__ import annotations

import json
from pathlib import Path

import pytest

from probe.commands.config import config
from probe.settings import leaves, load

FLAGS: dict[str, object] = {
    "triton.headers": "{authorization: 'Bearer s3cret'}",
    "triton.grpc": "unix:/run/x",
    "grpc_listen": "0.0.0.0:8004",
    "models.required": ("yes", "a: b", "1"),
    "placement.models": "{m: {device: gpu, gpus: [GPU-1], min_instances: 2}, n: {}}",
    "canary": "{m: {inputs: {X: [[1, 2.5, true, null, 'off']]}, deadline: 250ms}}",
    "gates": "{CpuFallback: {ready: 30s and 2 looks, live: never}}",
    "shadow": ("StubDead",),
    "heal.reload_model": "yes",
    "triton.tls.enabled": "off",
}


def test_every_setting_is_printed_with_its_origin(capsys: pytest.CaptureFixture[str]) -> None:
    """A default, a variable and a flag each say where they came from."""
    loaded = load(None, {"TRITON_PROBE_INTERVAL": "2s"}, {"triton.grpc": "x:1"})

    assert config(loaded, output_format="yaml") == 0

    lines = [line.split("#") for line in capsys.readouterr().out.splitlines()]
    shown = {value.strip(): origin[0].strip() for value, *origin in lines if origin}
    assert len(shown) == len(leaves())
    assert shown["interval: 2s"] == "environment TRITON_PROBE_INTERVAL"
    assert shown["grpc: x:1"] == "flag --grpc"
    assert shown["http: 127.0.0.1:8000"] == "default"


def test_what_is_printed_is_a_configuration_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output can be kept as a file: read again it gives the same settings, but for the secrets."""
    flags = {path: value for path, value in FLAGS.items() if path != "triton.headers"}
    loaded = load(None, {}, flags)

    config(loaded, output_format="yaml")

    path = tmp_path / "probe.yaml"
    path.write_text(capsys.readouterr().out)
    assert load(path, {}, {}).settings == loaded.settings


def test_secrets_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of headers are shown, their values are not, in either form."""
    loaded = load(None, {}, FLAGS)

    config(loaded, output_format="yaml")
    config(loaded, output_format="json")

    out = capsys.readouterr().out
    assert "s3cret" not in out
    assert "authorization: '***'" in out


def test_settings_are_also_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has value and origin by dotted path."""
    assert config(load(None, {}, FLAGS), output_format="json") == 0

    found = json.loads(capsys.readouterr().out)
    assert set(found) == set(leaves())
    assert found["gates"] == {
        "value": {"CpuFallback": {"ready": "30s and 2 looks", "live": "never"}},
        "origin": "flag --set gates",
    }
    assert found["interval"] == {"value": "5s", "origin": "default"}


def test_a_files_name_can_not_break_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the file is called, each setting stays on its line."""
    path = tmp_path / "a\nb.yaml"
    path.write_text("interval: 1s\n")

    config(load(path, {}, {}), output_format="yaml")

    assert "a?b.yaml:1" in capsys.readouterr().out
