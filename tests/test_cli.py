from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from probe import __version__
from probe.cli import FLAGS, group
from probe.settings import leaves


def run(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    """Run the command line in this process, away from this machine's own settings."""
    hidden = {name: None for name in os.environ if name.startswith("TRITON_PROBE_")}
    return CliRunner().invoke(group, arguments, env={**hidden, **(environ or {})}, prog_name="triton-probe")


def test_help_lists_the_commands() -> None:
    """All that this release has, and nothing that it has not."""
    result = run("--help")

    assert result.exit_code == 0
    assert sorted(group.commands) == [
        "audit",
        "check",
        "config",
        "demo",
        "doctor",
        "inject",
        "reasons",
        "serve",
        "size",
    ]
    assert all(f"\n  {name} " in result.output for name in group.commands)
    assert not any(line.endswith("...") for line in result.output.splitlines()[1:])


def test_the_version_is_the_packages() -> None:
    """One line, as scripts read it."""
    assert run("--version").output == f"triton-probe {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [("nope",), ("serve", "--nope"), ("check", "--gate", "nope"), ("reasons", "a", "b")]
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    """What can not be parsed is a usage error."""
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["serve", "doctor", "config"])
def test_a_wrong_configuration_is_one_line_and_exits_2(command: str, tmp_path: Path) -> None:
    """Every command with settings refuses a wrong file the same way."""
    path = tmp_path / "probe.yaml"
    path.write_text("interval: 5\n")

    result = run(command, "--config", str(path))

    assert result.exit_code == 2
    assert result.output.startswith(f"triton-probe: {path}:1: interval: found '5', expected a duration")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(("flag", "path"), [(flag, path) for flag, (path, _, _) in FLAGS.items()])
def test_every_flag_is_the_one_that_its_knob_names(flag: str, path: str) -> None:
    """Help, documentation and origins speak of the same flags."""
    assert leaves()[path].flag == flag


def test_no_knob_names_a_flag_that_is_not_there() -> None:
    """Nor the other way round."""
    assert {about.flag for about in leaves().values() if about.flag} == set(FLAGS)


def test_flags_set_their_knobs() -> None:
    """Each value arrives at its knob and says which flag it came from."""
    given = {
        "--grpc": "a:1",
        "--http": "a:2",
        "--metrics": "a:3",
        "--listen": "[::]:0",
        "--grpc-listen": "[::]:1",
        "--interval": "1s",
        "--required": "m",
        "--placement-default": "gpu",
        "--log-level": "debug",
        "--log-format": "console",
    }
    arguments = [part for pair in given.items() for part in pair]

    found = json.loads(run("config", "--format", "json", *arguments, "--required", "n").output)

    for flag, (path, _, _) in FLAGS.items():
        value = ["m", "n"] if flag == "--required" else given[flag]
        assert found[path] == {"value": value, "origin": f"flag {flag}"}


def test_any_knob_can_be_set() -> None:
    """--set takes a dotted path, and the last of two wins."""
    arguments = ("--set", "triton.timeout=3s", "--set", "restarts.max=1", "--set", "restarts.max=2")

    found = json.loads(run("config", "--format", "json", *arguments).output)

    assert found["triton.timeout"] == {"value": "3s", "origin": "flag --set triton.timeout"}
    assert found["restarts.max"]["value"] == 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--set", "interval"), "expected KNOB=VALUE"),
        (("--set", "=1"), "unknown key"),
        (("--set", "intervall=1s"), "did you mean interval?"),
        (
            ("--set", "interval=1s", "--interval", "2s"),
            "interval is given by its own flag too, expected once",
        ),
    ],
)
def test_a_wrong_set_exits_2_and_says_why(arguments: tuple[str, ...], expected: str) -> None:
    """Neither a typing error nor a contradiction is guessed at."""
    result = run("config", *arguments)

    assert result.exit_code == 2
    assert expected in result.output


def test_the_environment_is_read() -> None:
    """Variables reach the settings, and name their file."""
    found = json.loads(run("config", "--format", "json", environ={"TRITON_PROBE_INTERVAL": "1s"}).output)

    assert found["interval"] == {"value": "1s", "origin": "environment TRITON_PROBE_INTERVAL"}
    assert run("config", environ={"TRITON_PROBE_CONFIG": "/none"}).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--timeout", "5"),
        ("--timeout", "0"),
        ("--timeout", "-1s"),
        ("--url", "nonsense"),
        ("--url", "https://x"),
    ],
)
@pytest.mark.parametrize("command", ["check", "size"])
def test_who_asks_a_daemon_refuses_what_it_can_not_ask(command: str, arguments: tuple[str, ...]) -> None:
    """Wrong usage is told from a gate that fails and from no answer."""
    result = run(command, *arguments)

    assert result.exit_code == 2
    assert "expected" in result.output


@pytest.mark.parametrize("command", ["check", "size"])
def test_who_asks_a_daemon_takes_its_url_from_the_environment(command: str) -> None:
    """As exec probes and scripts set it once."""
    result = run(command, environ={"TRITON_PROBE_URL": "http://127.0.0.1:1"})

    assert result.exit_code == 3
    assert "no answer from http://127.0.0.1:1: connection refused" in result.output


def test_reasons_prints_the_catalogue() -> None:
    """Through the command line as by itself."""
    assert "TritonHung" in run("reasons").output
    assert run("reasons", "nope").exit_code == 2


_IMPORTS = """
import sys
from probe.cli import group
try:
    group({arguments!r})
except SystemExit:
    pass
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def imported(*arguments: str) -> set[str]:
    """Top-level modules that a command needs, with the command's own output left out."""
    script = _IMPORTS.format(arguments=list(arguments))
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("TRITON_PROBE_", "COV"))
    }
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ
    )
    return set(ran.stdout.splitlines()[-1].split())


FOREIGN = {
    "grpc",
    "tritonclient",
    "numpy",
    "rich",
    "starlette",
    "uvicorn",
    "psutil",
    "pynvml",
    "prometheus_client",
}


def test_check_imports_nothing_but_click_and_the_standard_library() -> None:
    """It runs every few seconds as an exec probe: this is its budget."""
    found = imported("check", "--url", "http://127.0.0.1:1")

    assert not found & {*FOREIGN, "structlog", "msgspec", "yaml", "google", "asyncio"}
    assert "http" in found


@pytest.mark.parametrize(
    "arguments", [("reasons",), ("config",), ("--help",), ("size", "--url", "http://127.0.0.1:1")]
)
def test_what_only_prints_imports_no_source_and_no_surface(arguments: tuple[str, ...]) -> None:
    """Looking something up needs neither Triton nor NVML nor a server."""
    assert not imported(*arguments) & FOREIGN


def test_the_command_is_the_module() -> None:
    """`python -m probe` is `triton-probe`, for images without a scripts folder."""
    ran = subprocess.run(
        [sys.executable, "-m", "probe", "--version"], capture_output=True, text=True, check=True
    )

    assert ran.stdout == f"triton-probe {__version__}\n"


def test_every_command_has_help() -> None:
    """Each command and each of its options says what it does."""
    for name, command in group.commands.items():
        assert run(name, "--help").exit_code == 0
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name != "output_format":
                assert parameter.help, f"{name} {parameter.name}"
