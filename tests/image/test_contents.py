"""Is everything in the image that the probe needs, and nothing beyond?"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

import pytest

import probe
from testbed.images import build
from testbed.pods.podman import Podman
from tests.image.conftest import ROOT_IN_WRITING, Run, RunImage

_IMPORT_ALL = """
import importlib, json, pkgutil, sys
import probe
names = [each.name for each in pkgutil.walk_packages(probe.__path__, "probe.")]
failed = {}
for name in names:
    if not name.endswith("__main__"):
        try:
            importlib.import_module(name)
        except Exception as error:
            failed[name] = repr(error)
heavy = [each for each in ("numpy", "pip", "setuptools", "pygments") if importlib.util.find_spec(each)]
print(json.dumps({"names": len(names), "failed": failed, "heavy": heavy, "optimised": sys.flags.optimize}))
"""

_WRITABLE = """
import json, os
found, seen = [], 0
for folder, folders, files in os.walk("/"):
    if folder == "/":
        folders[:] = [each for each in folders if each not in ("proc", "sys", "dev")]
    for each in [folder, *(os.path.join(folder, name) for name in files)]:
        seen += 1
        if os.path.exists(each) and os.access(each, os.W_OK):
            found.append(each)
print(json.dumps({"seen": seen, "found": found, "uid": os.getuid(), "gid": os.getgid()}))
"""


class Member(NamedTuple):
    """A file, folder or link of the image, and how it begins."""

    info: tarfile.TarInfo
    head: bytes


Members = dict[PurePath, Member]


@pytest.fixture(scope="module")
def members(image: str) -> Members:
    """What is in the image's layers, by path."""
    found: Members = {}
    with tarfile.open(build.archive()) as archive:
        (manifest,) = json.load(_file(archive, "manifest.json"))
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=_file(archive, layer)) as files:
                for each in files:
                    head = _file(files, each).read(20) if each.isfile() else b""
                    found[PurePath("/", each.name)] = Member(each, head)
    return found


def _file(archive: tarfile.TarFile, name: str | tarfile.TarInfo) -> tarfile.ExFileObject:
    file = archive.extractfile(name)
    assert isinstance(file, tarfile.ExFileObject)
    return file


def programs(members: Members) -> Iterator[str]:
    """The names of what lies in a folder for programs, is a script, or is compiled and no library."""
    for path, (info, head) in members.items():
        script = head.startswith(b"#!") and info.mode & 0o111
        compiled = head.startswith(b"\x7fELF") and ".so" not in path.name
        if not info.isdir() and (path.parent.name in ("bin", "sbin", "libexec") or script or compiled):
            yield path.name


def test_its_configuration_is_what_manifests_and_runtimes_read(podman: Podman, image: str) -> None:
    """User, entry point, port, signal, labels, size."""
    (told,) = json.loads(podman.call("image", "inspect", image).stdout)
    config = told["Config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["triton-probe"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["ExposedPorts"]) == ["8003/tcp"]
    assert {"OPENBLAS_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1"} <= set(config["Env"])
    assert not [each for each in config["Env"] if each.startswith("NVIDIA_VISIBLE_DEVICES")]
    label = {
        name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()
    }
    assert label["title"] == "triton-probe"
    assert label["version"] == probe.__version__
    assert label["licenses"] == "Apache-2.0"
    assert label["base.name"] == build.BASE
    assert told["Size"] < 150_000_000


def test_every_module_can_be_imported(served: Run) -> None:
    """Nothing that is imported anywhere was left out, however late; and what was left out is not there."""
    told = served.python(_IMPORT_ALL)
    assert told["failed"] == {}
    assert told["names"] > 200
    assert told["heavy"] == []
    assert told["optimised"] == 0


def test_nothing_can_be_written_even_where_the_root_could(run_image: RunImage) -> None:
    """All belongs to root: what breaks into the probe can not change it."""
    told = run_image(flags=ROOT_IN_WRITING).python(_WRITABLE)
    assert (told["uid"], told["gid"]) == (1000, 1000)
    assert told["seen"] > 1000
    assert told["found"] == []


def test_there_is_no_program_but_the_probe(members: Members) -> None:
    """No shell, no package manager, no compiler, and nothing that changes its user."""
    found = {each for each in programs(members) if not each.startswith(("python3", "ld-linux-"))}
    assert found == {"python", "triton-probe"}
    assert [path for path, each in members.items() if each.info.mode & 0o6000] == []


def test_every_module_is_compiled(members: Members) -> None:
    """A read-only root can keep no bytecode: what is not compiled here, each start would compile."""
    sources = {
        path for path in members if path.suffix == ".py" and path.parent != PurePath("/etc/python3.13")
    }
    compiled = {
        path.parent.parent / f"{path.name.partition('.cpython-')[0]}.py"
        for path in members
        if path.suffix == ".pyc"
    }
    assert len(sources) > 1000
    assert sources - compiled == set()


def test_scanners_find_what_it_is_made_of(members: Members) -> None:
    """The base's packages by name, with their licences, and the Python packages by their metadata."""
    packages = {path.name for path in members if path.parent == PurePath("/var/lib/dpkg/status.d")}
    assert {"libc6", "zlib1g", "ca-certificates"} <= packages
    assert {PurePath("/usr/share/doc/libc6/copyright"), PurePath("/etc/os-release")} <= set(members)
    metadata = {path.parent.name.partition("-")[0] for path in members if path.name == "METADATA"}
    assert {"grpcio", "protobuf", "triton_probe"} <= metadata
