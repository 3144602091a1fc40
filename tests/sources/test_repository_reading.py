"""Which models lie below a path, as Triton would find them, and what can not be read of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from probe.facts.repository import RepositoryModel, RepositoryReading, VersionFolder
from probe.sources.repository.files import LARGEST_BYTES, FileError, read_file
from probe.sources.repository.reading import read_repositories
from tests.repositories import lay


def read(*paths: Path | str, name: str = "") -> RepositoryReading:
    """What lies at these paths."""
    return read_repositories([str(each) for each in paths], name)


def names(reading: RepositoryReading) -> list[list[str]]:
    """The models by deployment."""
    return [[each.name for each in of.models] for of in reading.deployments]


def one(reading: RepositoryReading) -> RepositoryModel:
    """The only model."""
    ((model,),) = (of.models for of in reading.deployments)
    return model


def test_every_folder_of_a_repository_is_a_model(tmp_path: Path) -> None:
    """With a file, without one, and without anything, as Triton takes them; files beside them are none."""
    lay(tmp_path, "written", 'backend: "python"')
    lay(tmp_path, "completed")
    lay(tmp_path, "notes", files=("readme.txt",))
    (tmp_path / "labels.txt").write_text("cat")
    reading = read(tmp_path)

    assert names(reading) == [["completed", "notes", "written"]]
    completed, notes, written = reading.deployments[0].models
    assert (completed.config_file, completed.empty, notes.empty) == (None, False, True)
    assert written.config_file == f"{tmp_path}/written/config.pbtxt"
    assert reading.unreadable == ()


def test_what_lies_beside_models_without_files_is_none(tmp_path: Path) -> None:
    """A tree of sources is no repository yet, and its other folders are not meant for one."""
    lay(tmp_path, "written", 'backend: "python"', files=())
    lay(tmp_path, "tests", files=("configs/case.pbtxt",))

    assert names(read(tmp_path)) == [["written"]]


def test_a_models_folder_and_its_file_are_the_model(tmp_path: Path) -> None:
    """By whichever of its names it is given, once or twice, with its neighbours known by name."""
    folder = lay(tmp_path, "m", 'backend: "python"')
    lay(tmp_path, "neighbour", "")
    (tmp_path / "link").symlink_to(folder)

    for paths in (
        (folder,),
        (folder / "config.pbtxt",),
        (folder, f"{folder}/"),
        (folder, folder / "config.pbtxt"),
    ):
        reading = read(*paths)
        assert one(reading).name == "m"
        assert one(reading).versions[0].version == 1
        assert reading.deployments[0].beside == {"m", "neighbour", "link"}


def test_a_link_to_a_model_is_a_model_by_the_links_name(tmp_path: Path) -> None:
    """Triton follows it."""
    folder = lay(tmp_path / "store", "abc", 'backend: "python"')
    repository = tmp_path / "models"
    repository.mkdir()
    (repository / "m").symlink_to(folder)

    assert names(read(repository)) == [["m"]]


def test_paths_are_shown_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path stays one, for editors and for annotations."""
    lay(tmp_path, "m", 'backend: "python"')
    monkeypatch.chdir(tmp_path)

    assert one(read(".")).config_file == "./m/config.pbtxt"
    assert one(read("m")).config_file == "m/config.pbtxt"
    monkeypatch.chdir(tmp_path / "m")
    assert one(read("config.pbtxt")).config_file == "config.pbtxt"
    assert one(read("config.pbtxt")).name == "m"


def test_a_file_that_lies_alone_is_judged_alone(tmp_path: Path) -> None:
    """No version beside it, or another name than Triton looks for: its folder says nothing."""
    alone = tmp_path / "config.pbtxt"
    alone.write_text('name: "m"')
    other = lay(tmp_path / "models", "m", "") / "draft.pbtxt"
    other.write_text('name: "m"')

    assert one(read(alone)).lone
    assert one(read(other)).lone
    assert one(read(other)).versions == ()


def test_each_of_its_configurations_is_read(tmp_path: Path) -> None:
    """Those of its configs folder as variants; with --model-config-name that one in place of all."""
    folder = lay(tmp_path, "m", 'backend: "python"', files=("1/model.py", "configs/big.pbtxt"))
    (folder / "configs" / "big.pbtxt").write_text('backend: "onnxruntime"')
    lay(tmp_path, "n", "")

    assert [(each.name, each.variant) for each in read(tmp_path).deployments[0].models] == [
        ("m", ""),
        ("m", "big"),
        ("n", ""),
    ]
    chosen = read(tmp_path, name="big").deployments[0].models
    assert [(each.name, each.variant, each.said.backend) for each in chosen] == [
        ("m", "", "onnxruntime"),
        ("n", "", ""),
    ]
    assert one(read(folder, name="small")).said.backend == "python"
    assert one(read(folder / "configs" / "big.pbtxt")).variant == "big"
    assert one(read(folder / "configs" / "big.pbtxt")).name == "m"


def test_versions_are_numbers_and_zeros_in_front_are_told(tmp_path: Path) -> None:
    """Other folders are none; bytes are those of everything below, links followed."""
    folder = lay(tmp_path, "m", "", files=("1/model.py", "3/model.onnx", "007/x", "lib/y", "abc/z"))
    (folder / "3" / "weights").mkdir()
    (folder / "3" / "weights" / "w.bin").write_bytes(bytes(1000))
    (folder / "3" / "gone").symlink_to("nowhere")
    first, third = one(read(folder)).versions

    assert (first.version, first.files, first.asks_device) == (1, ("model.py",), True)
    assert (third.version, third.files, third.asks_device) == (3, ("gone", "model.onnx", "weights"), None)
    assert third.bytes == 1000 + (folder / "3" / "model.onnx").stat().st_size
    assert one(read(folder)).ignored == ("007",)


@pytest.mark.parametrize(
    ("engine", "parallel"),
    [
        ('{"tensor_parallel_size": 4, "pipeline_parallel_size": "2"}', 8),
        ('{"model": "x"}', 1),
        ('{"tensor_parallel_size": -3}', 1),
        ('{"tensor_parallel_size": 1e9}', 1),
        (json.dumps({"tensor_parallel_size": 10**30}), 1),
        ("[1, 2]", 1),
        ("not json", 1),
        ("[" * 100_000, 1),
    ],
)
def test_a_vllm_engine_says_over_how_many_gpus_it_is_spread(
    tmp_path: Path, engine: str, parallel: int
) -> None:
    """Tensor times pipeline; what makes no sense is one."""
    folder = lay(tmp_path, "m", 'backend: "vllm"', files=("1/model.json",))
    (folder / "1" / "model.json").write_text(engine)

    assert one(read(folder)).versions == (VersionFolder(1, ("model.json",), len(engine), None, parallel),)


def test_code_that_never_speaks_of_its_device_is_told_from_code_that_does(tmp_path: Path) -> None:
    """In any Python file of the version, not only in model.py."""
    folder = lay(tmp_path, "m", "", files=("1/model.py", "2/model.py", "2/deep/helper.py"))
    (folder / "1" / "model.py").write_text("import torch\n")
    (folder / "2" / "model.py").write_text("import deep.helper\n")

    assert [each.asks_device for each in one(read(folder)).versions] == [False, True]


def test_repositories_further_down_are_found_each_by_itself(tmp_path: Path) -> None:
    """A tree of several, one within another's folders; hidden folders and links down the tree are left."""
    lay(tmp_path / "one" / "models", "a", "")
    lay(tmp_path / "two", "b", "")
    lay(tmp_path / "two" / "more" / "models", "c", "")
    lay(tmp_path / ".git" / "models", "d", "")
    (tmp_path / "round").symlink_to(tmp_path)
    reading = read(tmp_path)

    assert sorted(names(reading)) == [["a"], ["b"], ["c"]]
    assert sorted(of.paths[0] for of in reading.deployments) == [
        f"{tmp_path}/one/models",
        f"{tmp_path}/two",
        f"{tmp_path}/two/more/models",
    ]


def test_repositories_that_are_given_by_name_go_to_one_triton(tmp_path: Path) -> None:
    """So that an ensemble may use models of another."""
    lay(tmp_path / "one", "a", "")
    lay(tmp_path / "two", "b", "")

    assert names(read(tmp_path / "one", tmp_path / "two")) == [["a", "b"]]


def test_what_is_not_there_is_told_and_the_rest_is_read(tmp_path: Path) -> None:
    """A missing path, an empty folder, a loop of links, a pipe, a folder by the name of a file, a huge file."""
    lay(tmp_path / "models", "good", 'backend: "python"')
    lay(tmp_path / "models", "bad", "name: ${name}")
    lay(tmp_path / "models", "folder", files=("config.pbtxt/x",))
    huge = lay(tmp_path / "models", "huge", b"#" * (LARGEST_BYTES + 1))
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    reading = read(
        *(tmp_path / each for each in ("none", "empty", "loop", "pipe", "models")), f"{tmp_path}/a\x00b"
    )

    told = {each.path.removeprefix(f"{tmp_path}/"): each for each in reading.unreadable}
    assert "no such file or directory: expected a model repository" in told["none"].message
    assert "found no model in it, expected a model repository" in told["empty"].message
    assert "symbolic links" in told["loop"].message
    assert told["pipe"].message == "found a pipe, expected a file"
    assert "null" in told["a\x00b"].message
    assert (told["models/bad/config.pbtxt"].line, told["models/bad/config.pbtxt"].column) == (1, 7)
    assert told["models/folder/config.pbtxt"].message == "found a folder, expected a file"
    assert told["models/huge/config.pbtxt"].message.startswith("found a file of more than 1 MiB")
    assert huge.is_dir()
    (of,) = reading.deployments
    assert [each.name for each in of.models if each.readable] == ["good"]


def test_folders_and_files_without_permission_are_told(tmp_path: Path) -> None:
    """As another user than root, whom nothing is forbidden."""
    lay(tmp_path / "models", "m", "").joinpath("config.pbtxt").chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    lines = _as_nobody(
        tmp_path,
        "BECOME",
        "for each in read_repositories(['closed', 'models']).unreadable: print(each.message)",
    )

    assert lines == [
        "can not be listed: permission denied",
        "can not be read: permission denied",
    ]


def test_what_a_closed_folder_holds_is_not_known_and_never_missing(tmp_path: Path) -> None:
    """A model's folder, its versions, or its file behind a folder that can be listed and not entered."""
    models = tmp_path / "models"
    for name in ("closed", "entered", "no_version", "seen"):
        lay(models, name, 'backend: "python"')
    (models / "closed").chmod(0)
    (models / "entered").chmod(0o111)
    (models / "no_version" / "1").chmod(0)
    (models / "seen").chmod(0o444)
    lines = _as_nobody(
        tmp_path,
        "from probe.checks.audit.roster import findings",
        "from probe.checks.audit.terms import Terms",
        "BECOME",
        "reading = read_repositories(['models'])",
        "for each in reading.unreadable: print(each.path, each.message)",
        "for each in findings(reading, Terms()): print(each.model, each.rule)",
    )

    assert sorted(lines) == [
        "entered PlacementImplicit",
        "models/closed can not be listed: permission denied",
        "models/entered can not be listed: permission denied",
        "models/no_version/1 can not be listed: permission denied",
        "models/seen/1 can not be listed: permission denied",
        "models/seen/config.pbtxt can not be read: permission denied",
        "no_version PlacementImplicit",
    ]


def _as_nobody(folder: Path, *script: str) -> list[str]:
    """What a script prints in this folder; from BECOME on as another user than root."""
    become = "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)"
    start = ("import os, sys", "from probe.sources.repository.reading import read_repositories")
    folder.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join((*start, *script)).replace("BECOME", become)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each or "." for each in sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """Nobody writes to it, and the look ends all the same."""
    os.mkfifo(tmp_path / "config.pbtxt")

    with pytest.raises(FileError, match="found a pipe"):
        read_file(str(tmp_path / "config.pbtxt"))
