"""`triton-probe audit` as it is typed: what it prints, what it writes, and how it exits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from probe.cli import group
from probe.facts.audits import RULES, AuditFinding
from probe.facts.findings import Severity
from probe.facts.repository import Unreadable
from probe.surfaces import terminal
from probe.surfaces.audits import AuditReport, FixedFile, as_annotations, as_text
from testbed.tools import missing
from tests.repositories import lay, mutants

CLEAN = 'backend: "python"\ninstance_group [ { count: 1 kind: KIND_CPU } ]\n'
IMPLICIT = '# mine\nbackend: "python"\n'


def run(*arguments: object, environ: dict[str, str] | None = None) -> Result:
    """Run the command away from this machine's own settings."""
    hidden = dict.fromkeys(each for each in os.environ if each.startswith(("TRITON_PROBE_", "GITHUB_")))
    words = ["audit", *(str(each) for each in arguments)]
    return CliRunner().invoke(group, words, env={**hidden, **(environ or {})}, prog_name="triton-probe")


def told(*arguments: object) -> Any:  # noqa: ANN401 - any JSON
    """The JSON of a run."""
    return json.loads(run(*arguments, "--format", "json").stdout)


def rules(*arguments: object) -> list[str]:
    """The rules that a run found broken."""
    return [each["rule"] for each in told(*arguments)["findings"]]


def test_a_clean_repository_exits_0(tmp_path: Path) -> None:
    """With one line."""
    lay(tmp_path, "m", CLEAN)
    result = run(tmp_path)

    assert result.exit_code == 0
    assert result.output == "1 model: no findings.\n"


def test_findings_exit_1_with_place_and_remedy(tmp_path: Path) -> None:
    """Plain text where there is no terminal: each sentence on one line."""
    lay(tmp_path, "m", IMPLICIT)
    result = run(tmp_path, "--device", "gpu")

    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0] == f"{tmp_path}/m/config.pbtxt: WARNING  PlacementImplicit  m"
    assert "meant for a GPU (--device gpu)" in lines[1]
    assert lines[2] == "    Do: Write the placement down: instance_group [ { count: 1 kind: KIND_GPU } ]"
    assert lines[-1] == "1 model: 1 finding (1 warning)."


def test_what_can_not_be_read_exits_2_and_hides_nothing(tmp_path: Path) -> None:
    """Line, column and what was expected; the other files are audited."""
    lay(tmp_path, "m", IMPLICIT)
    lay(tmp_path, "bad", "name:\n  ${name}")
    result = run(tmp_path, tmp_path / "nowhere")

    assert result.exit_code == 2
    assert (
        f"{tmp_path}/bad/config.pbtxt:2:3: UNREADABLE  found '${{name}}', expected a value" in result.output
    )
    assert f"{tmp_path}/nowhere: UNREADABLE  no such file or directory" in result.output
    assert "PlacementImplicit  m" in result.output
    assert result.output.endswith("2 models: 1 finding (1 warning), 2 unreadable.\n")


def test_json_is_one_object_with_models_and_findings(tmp_path: Path) -> None:
    """What is not known is null."""
    lay(tmp_path, "e", 'platform: "ensemble"\nensemble_scheduling { step [ { model_name: "x" } ] }')
    lay(tmp_path, "m", f"{CLEAN}zzz: 1\n")
    lay(tmp_path, "bad", "}")
    found = told(tmp_path)

    assert found["schema"] == 1
    assert found["models"] == [
        {
            "name": "bad",
            "file": f"{tmp_path}/bad/config.pbtxt",
            "variant": "",
            "backend": None,
            "expected": "any",
            "explicit": None,
            "instances": None,
        },
        {
            "name": "e",
            "file": f"{tmp_path}/e/config.pbtxt",
            "variant": "",
            "backend": None,
            "expected": "any",
            "explicit": None,
            "instances": 0,
        },
        {
            "name": "m",
            "file": f"{tmp_path}/m/config.pbtxt",
            "variant": "",
            "backend": "python",
            "expected": "cpu",
            "explicit": True,
            "instances": 1,
        },
    ]
    assert [(each["rule"], each["model"], each["line"]) for each in found["findings"]] == [
        ("EnsembleStepMissing", "e", 2),
        ("FieldUnknown", "m", 3),
    ]
    assert found["findings"][1]["severity"] == "warning"
    assert found["unreadable"][0]["line"] == 1
    assert found["fixed"] == []


def test_policy_comes_from_the_model_then_the_file_then_the_flag(tmp_path: Path) -> None:
    """As the daemon takes it."""
    own = 'parameters { key: "triton_probe.device" value { string_value: "cpu" } }\n'
    lay(tmp_path / "models", "own", CLEAN + own)
    lay(tmp_path / "models", "named", CLEAN)
    lay(tmp_path / "models", "other", CLEAN)
    settings = tmp_path / "probe.yaml"
    settings.write_text("placement: {models: {named: {device: any}, own: {device: gpu}}}\n")

    found = told(tmp_path / "models", "--config", settings, "--device", "gpu")
    assert [(each["rule"], each["model"]) for each in found["findings"]] == [("CpuFallback", "other")]
    assert {each["name"]: each["expected"] for each in found["models"]} == {
        "named": "any",
        "other": "gpu",
        "own": "cpu",
    }
    settings.write_text("placement: {default: gpu}\nmodels: {ignore: [own, other]}\n")
    result = run(tmp_path / "models", environ={"TRITON_PROBE_CONFIG": str(settings)})
    assert "placement.default: gpu" in result.output
    assert "CpuFallback  named" in result.output
    assert "CpuFallback  other" not in result.output


def test_sizes_are_judged_where_they_are_given(tmp_path: Path) -> None:
    """Against /dev/shm and memory, as Kubernetes writes sizes."""
    lay(tmp_path, "m", 'backend: "python"\ninstance_group [ { count: 40 kind: KIND_CPU } ]\n')

    assert rules(tmp_path) == []
    assert rules(tmp_path, "--shm", "80Mi", "--memory", "730Mi") == []
    assert rules(tmp_path, "--shm", "64Mi", "--memory", "512Mi") == ["ShmTooSmall", "MemoryTooSmall"]
    assert rules(tmp_path, "--shm", "1Gi", "--stub-shm", "64Mi") == ["ShmTooSmall"]
    assert rules(tmp_path, "--memory", "1Gi", "--stub-memory", "100Mi") == ["MemoryTooSmall"]


def test_a_variant_is_judged_and_can_be_chosen(tmp_path: Path) -> None:
    """As Triton's --model-config-name does."""
    folder = lay(tmp_path, "m", CLEAN)
    (folder / "configs").mkdir()
    (folder / "configs" / "small.pbtxt").write_text(IMPLICIT)

    assert rules(tmp_path) == ["PlacementImplicit"]
    assert rules(tmp_path, "--model-config-name", "small") == ["PlacementImplicit"]
    assert rules(tmp_path, "--model-config-name", "other") == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "Missing argument"),
        ((".", "--shm", "64"), ""),
        ((".", "--shm", "much"), "expected a size such as 64Mi"),
        ((".", "--memory", "0"), "expected a size above 0"),
        ((".", "--exclude", "cpufallback"), "did you mean CpuFallback?"),
        ((".", "--exclude", "xyzzy"), "--rules lists them all"),
        ((".", "--dry-run"), "goes with --fix alone"),
        ((".", "--gpus", "0"), "--gpus"),
        ((".", "--config", "/nowhere"), "/nowhere"),
    ],
)
def test_wrong_usage_exits_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], expected: str
) -> None:
    """And says what was expected; 64 bytes are a size, if not one of use."""
    lay(tmp_path, "m", CLEAN)
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)

    assert result.exit_code == (2 if expected else 1)
    assert expected in result.output


def test_a_rule_can_be_left_out(tmp_path: Path) -> None:
    """More than one, too."""
    lay(tmp_path, "m", IMPLICIT + 'name: "n"\n')

    assert rules(tmp_path, "--exclude", "NameMismatch") == ["PlacementImplicit"]
    assert run(tmp_path, "--exclude", "NameMismatch", "--exclude", "PlacementImplicit").exit_code == 0


def test_the_rules_are_listed() -> None:
    """Without a path."""
    result = run("--rules")

    assert result.exit_code == 0
    assert [each.split()[0] for each in result.output.splitlines()] == list(RULES)


def test_fix_writes_what_is_known_and_asks_for_what_is_not(tmp_path: Path) -> None:
    """The exit is that of what is left; a second run finds nothing to write."""
    folder = lay(tmp_path, "m", IMPLICIT)
    unknown = run(tmp_path, "--fix")
    assert unknown.exit_code == 1
    assert "--device gpu or --device cpu tells --fix which" in unknown.output
    assert (folder / "config.pbtxt").read_text() == IMPLICIT

    result = run(tmp_path, "--fix", "--device", "cpu")
    assert result.exit_code == 0
    assert result.output == (
        f"{folder}/config.pbtxt: added  instance_group [ {{ count: 1 kind: KIND_CPU }} ]\n\n1 model: no findings.\n"
    )
    written = (folder / "config.pbtxt").read_text()
    assert written == IMPLICIT + "instance_group [ { count: 1 kind: KIND_CPU } ]\n"

    assert run(tmp_path, "--fix", "--device", "gpu").exit_code == 1
    assert (folder / "config.pbtxt").read_text() == written


def test_a_preview_writes_nothing(tmp_path: Path) -> None:
    """It shows the difference, and the finding stays one."""
    folder = lay(tmp_path, "m", IMPLICIT)
    result = run(tmp_path, "--fix", "--dry-run", "--device", "gpu")

    assert result.exit_code == 1
    assert f"--- {folder}/config.pbtxt\n+++ {folder}/config.pbtxt\n" in result.output
    assert '\n backend: "python"\n+instance_group [ { count: 1 kind: KIND_GPU } ]\n' in result.output
    assert (folder / "config.pbtxt").read_text() == IMPLICIT


@pytest.mark.parametrize("program", [["git", "apply", "-p0", "-"], ["patch", "-p0", "--fuzz=0"]])
def test_a_preview_is_a_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: list[str]) -> None:
    """Without a last newline, with CRLF, tabs, blanks in a name, bytes of no encoding, an empty file."""
    if shutil.which(program[0]) is None:
        missing(f"{program[0]}: apt-get install {program[0]}")
    raws = {
        "plain": b'backend: "python"\n',
        "unended": b'backend: "python"',
        "crlf": b'backend: "python"\r\n\t# tab\r\n',
        "mixed": b'backend: "python"\n# feed\x0cline\xe2\x80\xa8sep\nmax_batch_size: 1\r\n',
        "a b": b'backend: "python"\n\n\tmax_batch_size: 1',
        "odd": b'# caf\xe9\xc2\xa0\nbackend: "python"\n',
        "empty": b"",
    }
    for name, raw in raws.items():
        lay(tmp_path / "models", name, raw)
    monkeypatch.chdir(tmp_path)
    shown = run("models", "--fix", "--dry-run", "--device", "gpu")
    shutil.copytree("models", "patched/models")
    subprocess.run(program, cwd="patched", input=shown.stdout_bytes, check=True, capture_output=True)

    assert run("models", "--fix", "--device", "gpu").exit_code == 0
    for name, raw in raws.items():
        fixed = Path("models", name, "config.pbtxt").read_bytes()
        assert fixed != raw
        assert Path("patched/models", name, "config.pbtxt").read_bytes() == fixed


def test_two_models_with_one_file_are_fixed_once(tmp_path: Path) -> None:
    """By two links the same line is not written twice."""
    shared = tmp_path / "shared.pbtxt"
    shared.write_text(IMPLICIT)
    for name in ("a", "b"):
        lay(tmp_path / "models", name).joinpath("config.pbtxt").symlink_to(shared)

    assert run(tmp_path / "models", "--fix", "--device", "gpu").exit_code == 0
    assert shared.read_text().count("instance_group") == 1


def test_a_fix_that_can_not_be_written_exits_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the file is named with the cause."""
    lay(tmp_path, "m", IMPLICIT)

    def refused(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refused)
    result = run(tmp_path, "--fix", "--device", "gpu")
    assert result.exit_code == 2
    assert "UNREADABLE  --fix: can not be written: read-only file system" in result.output


def test_a_repository_of_mutated_files_is_audited_and_fixed(tmp_path: Path) -> None:
    """Whatever they say: no crash, each file is told of or well, and what was readable still is."""
    for index, raw in enumerate(mutants(300, 7)):
        lay(tmp_path, f"m{index}", raw)
    arguments = (tmp_path, "--device", "gpu", "--shm", "64Mi", "--memory", "1Gi", "--gpus", "2")
    before = told(*arguments)
    after = told(*arguments, "--fix")

    assert len(before["models"]) == 300
    assert 0 < len(before["unreadable"]) < 300
    assert after["unreadable"] == before["unreadable"]
    assert len(after["fixed"]) == sum(each["rule"] == "PlacementImplicit" for each in before["findings"])
    assert "PlacementImplicit" not in {each["rule"] for each in after["findings"]}
    assert run(*arguments, "--format", "github").exit_code == 2


def test_annotations_are_commands_of_the_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the checkout, also from a folder below it; errors where Triton refuses or falls back."""
    lay(tmp_path / "checkout" / "models", "m", f'name: "n"\n{IMPLICIT}')
    monkeypatch.chdir(tmp_path / "checkout" / "models")
    result = run(".", "--format", "github", environ={"GITHUB_WORKSPACE": str(tmp_path / "checkout")})

    assert result.exit_code == 1
    implicit, name = result.output.splitlines()
    assert implicit.startswith("::warning file=models/m/config.pbtxt,title=PlacementImplicit%3A ")
    assert name.startswith("::error file=models/m/config.pbtxt,line=1,title=NameMismatch%3A ")
    assert "::It is named 'n'" in name
    assert "%0ADo: Write name" in name


def test_annotations_escape_what_would_end_them() -> None:
    """As the runner's own toolkit: per cent and line ends everywhere, colons and commas in properties."""
    finding = AuditFinding(
        "CpuFallback", Severity.INFO, "m", "a,b:c%d\n/config.pbtxt", 3, "50% :: a,b\r\nnew\x1b[31m", "x"
    )
    trouble = Unreadable("/elsewhere/x", "what: 1, 2", 4, 5)
    first, second = as_annotations(AuditReport((), (finding,), (trouble,)), "/checkout")

    assert first.startswith("::notice file=a%2Cb%3Ac%25d%0A/config.pbtxt,line=3,title=CpuFallback%3A ")
    assert first.endswith("::50%25 :: a,b%0D%0Anew\\x1b[31m%0ADo: x")
    assert second == "::error file=/elsewhere/x,line=4,col=5,title=Unreadable::what: 1, 2"


def test_texts_from_outside_steer_no_terminal() -> None:
    """Names are whatever a file system holds."""
    finding = AuditFinding("CpuFallback", Severity.WARNING, "m\x1b[31m", "a\nb", None, "c\udcff", "d")
    shown = FixedFile("y", "line", " # a\x1b[31m\u202eb\rc\r\n+line\r\n")
    report = AuditReport((), (finding,), (), (FixedFile("x\x07", "line"), shown))

    printed = "\n".join(as_text(report))
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert " # a\\x1b[31m\\u202eb\\rc\r\n+line\r\n" in printed
    assert printed.encode()


def test_a_terminal_gets_colours() -> None:
    """The same words; rich draws them."""
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        out = terminal.console(nothing)
        finding = AuditFinding("CpuFallback", Severity.CRITICAL, "m", "a/config.pbtxt", 3, "It is.", "Do it.")
        fixed = FixedFile("a", "line", "--- a\n+++ a\n+line")
        with out.capture() as captured:
            terminal.show_audit(out, AuditReport((), (finding,), (Unreadable("b", "why", 1, 2),), (fixed,)))

    printed = captured.get()
    assert "a/config.pbtxt:3: CRITICAL  CpuFallback  m" in printed
    assert "Do: Do it." in printed
    assert "b:1:2: UNREADABLE" in printed
    assert "+line" in printed
    assert "0 models: 1 finding (1 critical), 1 unreadable." in printed


def test_it_needs_neither_grpc_nor_numpy_nor_a_surface_that_serves(tmp_path: Path) -> None:
    """It runs in hooks and in CI: only the schema's own modules are imported."""
    lay(tmp_path, "m", CLEAN)
    script = (
        "import sys\nfrom probe.cli import group\n"
        "try:\n    group(sys.argv[1:])\nexcept SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, "audit", str(tmp_path)], capture_output=True, text=True, check=True
    )
    modules = set(ran.stdout.splitlines()[-1].split())

    assert not modules & {
        "grpc",
        "numpy",
        "rich",
        "starlette",
        "uvicorn",
        "psutil",
        "pynvml",
        "prometheus_client",
    }
    assert "google" in modules
