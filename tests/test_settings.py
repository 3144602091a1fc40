from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.facts.catalogue import CATALOGUE
from probe.facts.gates import Gate, Hold
from probe.settings import (
    CanarySettings,
    ModelPlacement,
    Policy,
    Settings,
    SettingsError,
    format_hold,
    knobs,
    leaves,
    load,
    parse_hold,
    set_in_vain,
)

Written = Callable[[str], Path]

FULL = """\
triton:
  grpc: triton:9001
  http: unix:/run/http.sock
  metrics: "[::1]:9002"
  timeout: 250ms
  headers: {triton-key: s3cret}
  tls: {ca: /dev/null, server_name: triton}
listen: 0.0.0.0:9003
grpc_listen: 0.0.0.0:9004
interval: 2s
models: {required: [embedder, 1, yes], ignore: [old], stuck_after: 1h30m}
placement:
  default: gpu
  models: {embedder: {device: cpu, gpus: [GPU-0a1b, MIG-2c], min_instances: 2}}
canary:
  embedder: {inputs: {TEXT: [[hello, 1, 2.5, true, null]]}, expected: {OUT: [[1]]},
    deadline: 3s, idle: 1m, generate: on, tolerance: 0.5}
  warmed: {}
gates: {CpuFallback: {ready: 30s, live: never}, GpuLost: {ready: 5 looks}, StubDead: {live: 1m and 2 looks}}
shadow: [StubFrozen]
restarts: {max: 1, window: 2h}
heal: {reload_model: on}
log: {level: debug, format: console}
gpu: {memory_pressure: 0.8}
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Write a text to probe.yaml in the working directory and return its path."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        Path("probe.yaml").write_text(text)
        return Path("probe.yaml")

    return write


def error_of(
    config: Path | None = None, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> str:
    """The line that a configuration is refused with."""
    with pytest.raises(SettingsError) as caught:
        load(config, environ or {}, flags or {})
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_nothing_given_is_the_documented_default() -> None:
    """Without any layer the settings are those of the contract, and every origin says default."""
    loaded = load(None, {}, {})

    assert loaded.settings == Settings()
    assert loaded.settings.triton.grpc == "127.0.0.1:8001"
    assert loaded.settings.listen == "[::]:8003"
    assert loaded.settings.grpc_listen is None
    assert loaded.settings.interval == 5.0
    assert loaded.settings.models.stuck_after == 600.0
    assert set(loaded.origins) == set(leaves())
    assert set(loaded.origins.values()) == {"default"}


def test_a_file_can_set_everything(written: Written) -> None:
    """Every knob is read from the file, into its own type."""
    loaded = load(written(FULL), {}, {})

    settings = loaded.settings
    assert settings.triton.http == "unix:/run/http.sock"
    assert settings.triton.timeout == 0.25
    assert settings.triton.headers == {"triton-key": "s3cret"}
    assert settings.triton.tls.active
    assert settings.grpc_listen == "0.0.0.0:9004"
    assert settings.models.required == ("embedder", "1", "yes")
    assert settings.models.stuck_after == 5400.0
    assert settings.placement.default is Policy.GPU
    assert settings.placement.models == {"embedder": ModelPlacement(Policy.CPU, ("GPU-0a1b", "MIG-2c"), 2)}
    assert settings.canary["embedder"] == CanarySettings(
        {"TEXT": [["hello", 1, 2.5, True, None]]}, {"OUT": [[1]]}, 3.0, 60.0, True, 0.5
    )
    assert settings.canary["warmed"] == CanarySettings()
    assert settings.gates == {
        "CpuFallback": {Gate.READY: Hold(30.0), Gate.LIVE: None},
        "GpuLost": {Gate.READY: Hold(looks=5)},
        "StubDead": {Gate.LIVE: Hold(60.0, 2)},
    }
    assert settings.shadow == ("StubFrozen",)
    assert settings.restarts.max == 1
    assert settings.heal.reload_model is True
    assert settings.log.format == "console"
    assert settings.gpu.memory_pressure == 0.8
    assert loaded.origins["triton.timeout"] == "file probe.yaml:5"
    assert loaded.origins["triton.tls.ca"] == "file probe.yaml:7"
    assert loaded.origins["triton.tls.cert"] == "default"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2E5", -2e5),
        (".5e1", 5.0),
        ("1.0e3", 1e3),
        ("'1e3'", "1e3"),
        ("1e", "1e"),
        ("e3", "e3"),
    ],
)
def test_a_canary_takes_floats_as_everybody_writes_them(written: Written, text: str, value: object) -> None:
    """YAML 1.1 calls 1e-3 a text; in quotes it is one."""
    loaded = load(written(f"canary: {{m: {{inputs: {{x: [{text}]}}}}}}\n"), {}, {})
    assert loaded.settings.canary["m"].inputs == {"x": [value]}


def test_flags_win_over_environment_over_file_over_defaults(written: Written) -> None:
    """Each layer hides those below it, knob by knob, and the origin says which one won."""
    path = written("interval: 1s\nlisten: 127.0.0.1:1\nlog: {level: debug}\n")
    environ = {"TRITON_PROBE_INTERVAL": "2s", "TRITON_PROBE_LISTEN": "127.0.0.1:2"}

    loaded = load(path, environ, {"interval": "3s", "triton.grpc": None})

    assert loaded.settings.interval == 3.0
    assert loaded.settings.listen == "127.0.0.1:2"
    assert loaded.settings.log.level == "debug"
    assert loaded.origins["interval"] == "flag --interval"
    assert loaded.origins["listen"] == "environment TRITON_PROBE_LISTEN"
    assert loaded.origins["log.level"] == "file probe.yaml:3"
    assert loaded.origins["triton.grpc"] == "default"


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "~\n", "{}\n", "\ufeff", "triton:\nmodels:\n  required:\n"]
)
def test_an_empty_file_changes_nothing(written: Written, text: str) -> None:
    """An empty file, one of comments, and sections whose content is commented out are fine."""
    assert load(written(text), {}, {}).settings == Settings()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("triton:\n  grcp: x:1\n", "probe.yaml:2: triton.grcp: unknown key, did you mean triton.grpc?"),
        ("grpc: x:1\n", "probe.yaml:1: grpc: unknown key, did you mean triton.grpc?"),
        ("Interval: 5s\n", "probe.yaml:1: Interval: unknown key, did you mean interval?"),
        ("grpc-listen: 'off'\n", "probe.yaml:1: grpc-listen: unknown key, did you mean grpc_listen?"),
        ("zzz: 1\n", "probe.yaml:1: zzz: unknown key, expected one of triton, listen, "),
        ("interval: 5\n", "probe.yaml:1: interval: found '5', expected a duration"),
        ("interval:\n", "probe.yaml:1: interval: found nothing, expected a duration"),
        ("interval: 0s\n", "probe.yaml:1: interval: found '0s', expected a duration from 100ms to 1h"),
        ("interval: [5s]\n", "probe.yaml:1: interval: found a list, expected a duration"),
        (
            "interval: 1s\ninterval: 2s\n",
            "probe.yaml:2: interval: stands here a second time (first on line 1)",
        ),
        ("log: {level: info, level: info}\n", "probe.yaml:1: log.level: stands here a second time"),
        ("- interval\n", "probe.yaml:1: found a list, expected a mapping of settings"),
        ("hello\n", "probe.yaml:1: found a single value, expected a mapping of settings"),
        ("triton: [a]\n", "probe.yaml:1: triton: found a list, expected a mapping"),
        (
            "triton: {grpc: 'x:0'}\n",
            "probe.yaml:1: triton.grpc: found 'x:0', expected a port from 1 to 65535",
        ),
        ("triton: {grpc: 8001}\n", "probe.yaml:1: triton.grpc: found '8001', expected host:port"),
        ("triton: {timeout: !duration 3s}\n", "probe.yaml:1: triton.timeout: found the YAML tag '!duration'"),
        (
            "listen: [::]:8003\n",
            "probe.yaml:1: is not YAML: expected the node content, but found ':' at column 10; ",
        ),
        ('listen: "x:1\n', "probe.yaml:2: is not YAML: "),
        ("a: b: c\n", "probe.yaml:1: is not YAML: mapping values are not allowed here at column 5"),
        ("interval: 1s\n---\ninterval: 1s\n", "probe.yaml:2: is not YAML: but found another document"),
        ("? [a]\n: b\n", "probe.yaml:1: found a list as a key, expected a name"),
        (
            "gates: {CpuFalback: {ready: 0s}}\n",
            "probe.yaml:1: gates: found 'CpuFalback', expected a reason as",
        ),
        (
            "gates: {CpuFallback: {redy: 0s}}\n",
            "probe.yaml:1: gates.CpuFallback: found 'redy', expected one of live, ",
        ),
        (
            "gates: {CpuFallback: {ready: soon}}\n",
            "probe.yaml:1: gates.CpuFallback.ready: found 'soon', expected a dur",
        ),
        (
            "gates: {CpuFallback: {ready: }}\n",
            "probe.yaml:1: gates.CpuFallback.ready: found nothing, expected a dur",
        ),
        (
            "gates: {CpuFallback: never}\n",
            "probe.yaml:1: gates.CpuFallback: found a single value, expected a mapping",
        ),
        ("shadow: [Nope]\n", "probe.yaml:1: shadow: found 'Nope', expected a reason as"),
        ("shadow: CpuFallback\n", "probe.yaml:1: shadow: found 'CpuFallback', expected a list"),
        (
            "placement: {default: gpuu}\n",
            "probe.yaml:1: placement.default: found 'gpuu', expected one of auto, gpu",
        ),
        (
            "placement:\n  models:\n    a.b: {gpu: [GPU-1]}\n",
            "probe.yaml:3: placement.models.a.b.gpu: unknown key, did you mean placement.models.a.b.gpus?",
        ),
        (
            "placement: {models: {m: {gpus: [0]}}}\n",
            "probe.yaml:1: placement.models.m.gpus: found '0', expected a GPU",
        ),
        (
            "placement: {models: {m: {min_instances: 0}}}\n",
            "probe.yaml:1: placement.models.m.min_instances: found '0'",
        ),
        (
            "models: {required: [a/b]}\n",
            "probe.yaml:1: models.required: found 'a/b', expected a model's name",
        ),
        (
            "models: {required: [a], ignore: [a]}\n",
            "probe.yaml:1: models.ignore: holds a, which models.required",
        ),
        (
            'models: {required: ["\\ud800"]}\n',
            "probe.yaml:1: models.required: found text that is not Unicode",
        ),
        ("triton: {tls: {cert: /x}}\n", "probe.yaml:1: triton.tls.cert: given without triton.tls.key"),
        (
            "triton: {tls: {ca: /nowhere/ca.pem}}\n",
            "probe.yaml:1: triton.tls.ca: found '/nowhere/ca.pem' (No such file or directory), expected a PEM file",
        ),
        (
            "triton:\n  tls: {cert: /, key: /}\n",
            "probe.yaml:2: triton.tls.cert: found '/' (Is a directory), expected",
        ),
        ("listen: a:1\ngrpc_listen: a:1\n", "probe.yaml:2: grpc_listen: found a:1, where listen is too"),
        (
            "heal: {reload_model: maybe}\n",
            "probe.yaml:1: heal.reload_model: found 'maybe', expected true or false",
        ),
        ("gpu: {memory_pressure: 95}\n", "probe.yaml:1: gpu.memory_pressure: found '95', expected a ratio"),
        (
            "restarts: {max: -1}\n",
            "probe.yaml:1: restarts.max: found '-1', expected a whole number from 0 to 1000",
        ),
        (
            "log: {level: warn}\n",
            "probe.yaml:1: log.level: found 'warn', expected one of debug, info, warning, error",
        ),
        ("canary: {m: {inputs: {x: &a [*a]}}}\n", "probe.yaml:1: canary.m.inputs.x: is deeper than 32"),
        (
            "canary: {m: {deadlin: 3s}}\n",
            "probe.yaml:1: canary.m.deadlin: unknown key, did you mean canary.m.deadline?",
        ),
        ("canary: {m: {inputs: {x: " + "1" * 5000 + "}}}\n", "probe.yaml:1: canary.m.inputs.x: found '1111"),
        ("[" * 100_000, "probe.yaml: is nested too deep"),
        ("interval: \x00\n", "probe.yaml: is not YAML: special characters are not allowed"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(written: Written, text: str, line: str) -> None:
    """The line names file, line and key, what was found, and what was expected or most likely meant."""
    assert error_of(written(text)).startswith(line)


def test_aliases_that_multiply_are_refused(written: Written) -> None:
    """A few lines can not fill the memory."""
    bomb = "canary:\n  m:\n    inputs:\n      a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    names = "abcdefghij"
    for below, name in itertools.pairwise(names):
        bomb += f"      {name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n"

    assert "holds more than 100000 values" in error_of(written(bomb))


def test_a_file_that_can_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    """Missing, a directory, not UTF-8, endless, and a name no file can have: each says what it is."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"interval: \xff")

    assert error_of(tmp_path / "none").endswith(
        "none: does not exist, expected the YAML file that --config names"
    )
    assert "is a directory" in error_of(tmp_path)
    assert "is not UTF-8 at byte 10" in error_of(binary)
    assert "is larger than 1048576 bytes" in error_of(Path("/dev/zero"))
    assert "can not be read (embedded null byte)" in error_of(Path("a\0b"))


def test_a_file_that_the_system_does_not_open_is_refused_with_its_reason(tmp_path: Path) -> None:
    """The line says what the system said; a socket is what not even root may open."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))

        assert "can not be read (No such device or address)" in error_of(tmp_path / "socket")


def test_the_environment_can_name_the_file(written: Written) -> None:
    """TRITON_PROBE_CONFIG does what --config does, and an error says who named the file."""
    written("interval: 1s\n")

    assert load(None, {"TRITON_PROBE_CONFIG": "probe.yaml"}, {}).settings.interval == 1.0
    assert error_of(environ={"TRITON_PROBE_CONFIG": "none"}).endswith("that TRITON_PROBE_CONFIG names")


def test_the_flag_for_the_file_wins_over_the_environment(written: Written) -> None:
    """The variable's file is not even opened."""
    path = written("interval: 1s\n")

    assert load(path, {"TRITON_PROBE_CONFIG": "none"}, {}).settings.interval == 1.0


def test_the_environment_sets_scalars_lists_and_mappings() -> None:
    """Scalars stand as they are, without quotes; lists and mappings are YAML; names ignore case."""
    environ = {
        "triton_probe_triton__grpc": "unix:///run/x",
        "TRITON_PROBE_LISTEN": "[::]:0",
        "TRITON_PROBE_GRPC_LISTEN": "off",
        "TRITON_PROBE_MODELS__REQUIRED": "[a, b, a]",
        "TRITON_PROBE_TRITON__HEADERS": "{key: 'a: b'}",
        "TRITON_PROBE_PLACEMENT__MODELS": "{m: {device: any}}",
        "TRITON_PROBE_INTERVAL": "",
    }

    loaded = load(None, environ, {})

    assert loaded.settings.triton.grpc == "unix:/run/x"
    assert loaded.settings.listen == "[::]:0"
    assert loaded.settings.models.required == ("a", "b")
    assert loaded.settings.triton.headers == {"key": "a: b"}
    assert loaded.settings.placement.models == {"m": ModelPlacement(Policy.ANY)}
    assert loaded.settings.interval == 5.0
    assert loaded.origins["triton.grpc"] == "environment triton_probe_triton__grpc"
    assert loaded.origins["interval"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("TRITON_PROBE_INTERVALL", "5s", "unknown name, did you mean TRITON_PROBE_INTERVAL?"),
        ("TRITON_PROBE_TRITON_GRPC", "x:1", "unknown name, did you mean TRITON_PROBE_TRITON__GRPC?"),
        (
            "TRITON_PROBE_CANARY__M__IDLE",
            "1s",
            "canary is set as a whole, expected TRITON_PROBE_CANARY='{…}'",
        ),
        ("TRITON_PROBE_XYZZY", "1", "unknown name, expected TRITON_PROBE_ and a setting's path"),
        ("TRITON_PROBE_INTERVAL", "5", "interval: found '5', expected a duration"),
        ("TRITON_PROBE_MODELS__REQUIRED", "a", "models.required: found 'a', expected a list"),
        ("TRITON_PROBE_MODELS__REQUIRED", "[a", "models.required: is not YAML: "),
        ("TRITON_PROBE_MODELS__REQUIRED", "\udcff", "models.required: is not YAML: "),
        ("TRITON_PROBE_TRITON__SERVER_NAME", "\udcff", "unknown name, did you mean"),
        ("TRITON_PROBE_TRITON__TLS__CA", "\udcff", "triton.tls.ca: found text that is not Unicode"),
    ],
)
def test_a_wrong_variable_is_refused_in_one_line(name: str, value: str, line: str) -> None:
    """The line names the variable and what was expected or most likely meant."""
    assert error_of(environ={name: value}).startswith(f"environment {name}: {line}")


@pytest.mark.parametrize(
    "name",
    [
        "TRITON_PROBE_REQUIRE_ALL",
        "TRITON_PROBE_SANDBOX",
        "TRITON_PROBE_URL",
        "TRITON_PROBE_SERVICE_HOST",
        "TRITON_PROBE_SERVICE_PORT",
        "TRITON_PROBE_SERVICE_PORT_HTTP",
        "TRITON_PROBE_PORT",
        "TRITON_PROBE_PORT_8003_TCP",
        "TRITON_PROBE_PORT_8003_TCP_ADDR",
        "TRITON_PROBE_METRICS_SERVICE_HOST",
        "TRITON_PROBE_METRICS_PORT_8003_TCP_PROTO",
        "TRITONPROBE",
        "PATH",
    ],
)
def test_variables_of_others_are_no_settings(name: str) -> None:
    """Switches of tests, and what the kubelet adds for a Service named triton-probe, stop nobody."""
    assert load(None, {name: "x"}, {}).settings == Settings()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"interval": "5"}, "flag --interval: interval: found '5', expected a duration"),
        ({"--set interval": "5"}, "flag --set interval: interval: found '5', expected a duration"),
        (
            {"models.required": ("a/b",)},
            "flag --required: models.required: found 'a/b', expected a model's name",
        ),
        ({"--set trito.grpc": "x:1"}, "flag --set trito.grpc: unknown key, did you mean triton.grpc?"),
        ({"--set xyzzy": "1"}, "flag --set xyzzy: unknown key"),
        ({"--set triton": "{}"}, "flag --set triton: triton is a section, expected one of triton.grpc, "),
        (
            {"--set gates.CpuFallback": "{}"},
            "flag --set gates.CpuFallback: gates is set as a whole, expected --set gates",
        ),
    ],
)
def test_a_wrong_flag_is_refused_in_one_line(flags: dict[str, object], line: str) -> None:
    """The line names the flag and what was expected or most likely meant."""
    assert error_of(flags=flags).startswith(line)


def test_a_secret_is_in_no_error(written: Written) -> None:
    """Header values come from secrets, and errors go to logs."""
    for text in (
        'triton: {headers: {a: "s3cret\\n"}}',
        "triton: {headers: s3cret}",
        "triton: {headers: [s3cret]}",
    ):
        assert "s3cret" not in error_of(written(text))
    for value in ("s3cret", "s3cret: x: y", "{a: [s3cret", "{a: [s3cret]}"):
        assert "s3cret" not in error_of(environ={"TRITON_PROBE_TRITON__HEADERS": value})


def test_settings_can_not_be_changed() -> None:
    """Once loaded they are frozen."""
    settings = load(None, {}, {}).settings

    with pytest.raises(AttributeError):
        settings.interval = 1.0  # type: ignore[misc]


def test_every_knob_describes_itself() -> None:
    """Documentation is made from this: path, type, and what the default is and why."""
    found = knobs()

    assert {knob.path for knob in found if "*" not in knob.path} == set(leaves())
    assert "placement.models.*.device" in {knob.path for knob in found}
    for knob in found:
        assert knob.type
        assert knob.says.endswith(".")
        assert "efault" in knob.says, knob.path
        assert bool(knob.environment) == ("*" not in knob.path)


def test_no_knob_is_taken_for_a_variable_of_kubernetes() -> None:
    """Each knob's variable is heard: setting it wrongly is an error."""
    for knob in knobs():
        if knob.environment and "path" not in knob.type:
            assert error_of(environ={knob.environment: "\n?\n"}).startswith(f"environment {knob.environment}")


def test_every_default_can_be_written_out_and_read_back() -> None:
    """What documentation shows as a default is what one may write in a file."""
    for knob in knobs():
        if knob.environment and not isinstance(knob.default, list | dict):
            written = "null" if knob.default is None else str(knob.default)
            assert load(None, {knob.environment: written}, {}).settings == Settings(), knob.path


@given(st.none() | st.builds(Hold, st.integers(0, 10**6).map(lambda each: each / 1000), st.integers(0, 9999)))
def test_every_hold_survives_being_written_and_read(hold: Hold | None) -> None:
    """The catalogue's holds can be copied into a file."""
    assert parse_hold(format_hold(hold)) == hold


def test_the_holds_of_the_catalogue_survive_being_written_and_read() -> None:
    """Those above all."""
    for reason in CATALOGUE.values():
        for _, hold in reason.fails:
            assert parse_hold(format_hold(hold)) == hold


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever a file holds, the answer is settings or one line."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path, {}, {})
    except SettingsError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are fine


@pytest.mark.parametrize(
    ("flags", "vain"),
    [
        ({}, ()),
        ({"interval": "1s", "models.required": "[a]"}, ()),
        (
            {
                "canary": "{m: {}, n: {generate: true}}",
                "heal.reload_model": "true",
                "restarts.max": "5",
                "gpu.memory_pressure": "0.5",
                "grpc_listen": "127.0.0.1:8004",
            },
            ("grpc_listen",),
        ),
        (
            {"placement.models": "{m: {gpus: [GPU-1], min_instances: 2}, n: {device: gpu}}"},
            (),
        ),
    ],
)
def test_settings_that_nothing_acts_on_yet_are_named(flags: dict[str, str], vain: tuple[str, ...]) -> None:
    """What a user sets and this release ignores is told, not swallowed."""
    loaded = load(None, {}, {f"--set {path}": value for path, value in flags.items()})

    assert vain == set_in_vain(loaded.settings)
