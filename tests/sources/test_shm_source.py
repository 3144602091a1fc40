"""The files of ``/dev/shm`` and who holds them, on the real kernel: tmpfs, namespaces, mappings, other users."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probe.facts.container import ContainerReading, ShmFile, ShmUse
from probe.sources.container import holders, shm
from probe.sources.container.shm import Listed
from probe.sources.container.source import ContainerSource
from testbed.tools import missing
from tests.sources.children import child, needs_root

MIB = 1 << 20
REPOSITORY = Path(__file__).parents[2]
LOOK = """
import os, sys, msgspec
from probe.sources.container.source import ContainerSource
source = ContainerSource()
msgspec.json.encode(source.look(os.getpid(), frozenset(["x"])))  # the interpreter's files may be closed to the user
if user := int(sys.argv[2]):
    os.setgroups([]), os.setresgid(user, user, user), os.setresuid(user, user, user)
sys.stdout.buffer.write(msgspec.json.encode(source.look(int(sys.argv[1]), frozenset(sys.argv[3:]))))
"""
HOLD = """
import mmap, os, sys
how, path = sys.argv[1:]
file = os.open(path, os.O_RDWR)
if how == "map":
    kept = mmap.mmap(file, 4096)
    kept[0] = 1
    os.close(file)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def namespace() -> Iterator[int]:
    """The pid of a process with a ``/dev/shm`` of 16 MiB of its own."""
    if os.geteuid() != 0:
        missing("root, for namespaces")
    script = "mount -t tmpfs -o size=16m none /dev/shm && echo ready && exec cat >/dev/null"
    with child("unshare", "--mount", "sh", "-c", script) as pid:
        yield pid


def inside(pid: int) -> Path:
    """Its ``/dev/shm`` as it is seen from here."""
    return Path(f"/proc/{pid}/root/dev/shm")


def region(folder: Path, name: str, size: int = MIB) -> Path:
    """A file made as a stub's region is: truncated to its length, and its blocks allocated."""
    path = folder / name
    with path.open("wb") as file:
        os.truncate(file.fileno(), size)
        os.posix_fallocate(file.fileno(), 0, size)
    return path


@contextlib.contextmanager
def holding(how: str, path: Path) -> Iterator[int]:
    """A process of this namespace that maps the file, or has it open."""
    with child(sys.executable, "-c", HOLD, how, str(path)) as pid:
        yield pid


def look(pid: int, *suspects: str) -> ShmUse:
    """One look, which sees the file system."""
    use = ContainerSource().look(pid, frozenset(suspects)).shm
    assert use is not None
    return use


def look_as(user: int, pid: int, *suspects: str) -> ContainerReading:
    """Look as another user, without its groups and capabilities."""
    answer = subprocess.run(
        [sys.executable, "-c", LOOK, str(pid), str(user), *suspects],
        check=True,
        capture_output=True,
        cwd=REPOSITORY,
        timeout=30,
    )
    return msgspec.json.decode(answer.stdout, type=ContainerReading)


def test_regular_files_are_listed_with_what_they_hold(namespace: int) -> None:
    """Blocks and not length; folders, links, FIFOs and what lies deeper are none of them."""
    folder = inside(namespace)
    region(folder, "region", 2 * MIB)
    with (folder / "sparse").open("wb") as sparse:
        sparse.truncate(64 * MIB)
        sparse.write(b"x")
    (folder / "empty").touch()
    (folder / "deeper").mkdir()
    (folder / "deeper/file").write_bytes(b"x" * 4096)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    os.link(folder / "region", folder / "second name")
    Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff\n")).touch()
    use = look(namespace)
    assert use.files is not None
    held = {each.name: each.held_bytes for each in use.files}
    assert held.keys() == {"region", "sparse", "empty", "second name", "odd\\xff\n"}
    assert held["region"] + held["second name"] == 2 * MIB
    assert (held["sparse"], held["empty"]) == (4096, 0)
    assert use.used_bytes == 2 * MIB + 2 * 4096
    assert use.size_bytes == 16 * MIB
    assert use.inodes_total is not None
    assert use.inodes_free is not None
    assert 9 <= use.inodes_total - use.inodes_free <= 20
    assert all(each.modified > 1e9 for each in use.files)
    assert (use.cut, use.mapped, use.unmapped, use.undecided) == (
        False,
        frozenset(),
        frozenset(),
        frozenset(),
    )


def test_of_too_many_files_some_are_listed_and_it_is_said(
    namespace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may leave thousands."""
    for number in range(10):
        (inside(namespace) / str(number)).touch()
    monkeypatch.setattr(shm, "MOST_FILES", 4)
    use = look(namespace)
    assert use.files is not None
    assert (len(use.files), use.cut) == (4, True)


@pytest.mark.parametrize("how", ["map", "open"])
def test_who_maps_a_file_or_has_it_open_is_found(namespace: int, how: str) -> None:
    """By device and inode; asked of the names given, and of no others."""
    folder = inside(namespace)
    for name in ("held", "left", "unasked"):
        region(folder, name)
    with holding(how, folder / "held"):
        use = look(namespace, "held", "left", "missing")
    assert use.mapped == {"held"}
    assert use.unmapped == {"left"}
    assert use.undecided == frozenset()
    assert look(namespace, "held").unmapped == {"held"}


def test_a_file_of_the_same_name_elsewhere_is_another(namespace: int) -> None:
    """Up to 24.03 every Triton numbers its regions from 1."""
    region(inside(namespace), "region_1")
    name = f"region-{uuid.uuid4()}"
    region(inside(namespace), name)
    mine = region(Path("/dev/shm"), name)
    try:
        with holding("map", mine), holding("open", mine):
            assert look(namespace, name).unmapped == {name}
    finally:
        mine.unlink()


def test_a_file_that_was_removed_and_made_again_is_not_held_by_who_maps_the_old_one(namespace: int) -> None:
    """The name is the same, the file is not."""
    path = region(inside(namespace), "region")
    with holding("map", path):
        path.unlink()
        region(inside(namespace), "region")
        assert look(namespace, "region").unmapped == {"region"}


@needs_root
def test_a_process_that_may_not_be_read_leaves_it_undecided() -> None:
    """It shares the file system and has shared memory, and the kernel refuses to say of which file."""
    name = f"region-{uuid.uuid4()}"
    path = region(Path("/dev/shm"), name)
    path.chmod(0o666)
    user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
    if shutil.which(user[0]) is None:
        missing("setpriv; on Debian: apt-get install util-linux")
    try:
        with (
            child(*user, "sh", "-c", "echo ready; exec cat >/dev/null") as triton,
            holding("map", path),  # by root, whom user 1000 may not trace
        ):
            seen = look_as(1000, triton, name).shm
            assert seen is not None
            assert seen.undecided == {name}
    finally:
        path.unlink()


def listed(path: Path) -> Listed:
    """The file as a listing shows it."""
    seen = path.stat()
    return Listed(ShmFile(path.name, 0, 0.0), os.fsencode(path.name), seen.st_dev, seen.st_ino)


class Proc:
    """A ``/proc`` of processes with the files that a search reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process(1)

    def process(
        self, pid: int, maps: bytes = b"", *, mounts: bytes = b"", resident: bytes = b"", fd: bool = True
    ) -> Path:
        """One process; its maps and its open files may be taken away by the caller."""
        base = self.root / str(pid)
        base.mkdir()
        (base / "maps").write_bytes(maps)
        (base / "mountinfo").write_bytes(mounts)
        (base / "status").write_bytes(b"Name:\tx\n" + resident)
        if fd:
            (base / "fd").mkdir()
        return base

    def search(self, *files: Listed) -> holders.Answer:
        """Who holds these."""
        return holders.search(os.fsencode(self.root), files)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """One with a first process that holds nothing."""
    root = tmp_path / "proc"
    root.mkdir()
    return Proc(root)


@pytest.fixture
def file(tmp_path: Path) -> Listed:
    """A file to look for."""
    path = tmp_path / "region"
    path.touch()
    return listed(path)


def line(file: Listed, **other: int) -> bytes:
    """How maps shows a mapping of this file."""
    device, inode = other.get("device", file.device), other.get("inode", file.inode)
    numbers = b"%02x:%02x %d" % (os.major(device), os.minor(device), inode)
    return b"7f00-7f10 rw-s 00000000 " + numbers + b"                    /dev/shm/region\n"


@pytest.mark.parametrize("junk", [b"", b"garbage\n", b"7f00-7f10 rw-s 00000000 zz:zz 1 x\n", b"\xff\0\n" * 9])
def test_a_mapping_is_found_among_any_lines(proc: Proc, file: Listed, junk: bytes) -> None:
    """Also behind what is no mapping, and beyond one piece of reading."""
    proc.process(7, junk + b"7f00-7f10 r--p 00000000 00:00 0 \n" * 5000 + line(file))
    assert proc.search(file).mapped == {"region"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    st.lists(
        st.binary(max_size=80) | st.from_regex(rb"\A.{0,9} r r [0-9a-f]{1,30}:[0-9a-f]{1,30} [0-9]{1,30} \Z")
    )
)
def test_no_bytes_of_maps_make_a_search_raise(tmp_path: Path, lines: list[bytes]) -> None:
    """Nor do they hide the line that tells."""
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    path = tmp_path / "region"
    path.touch()
    found = listed(path)
    (tmp_path / "proc").mkdir()
    here = Proc(tmp_path / "proc")
    here.process(7, b"\n".join([*lines, b"", line(found)]))
    assert here.search(found).mapped == {"region"}


def test_a_line_without_an_end_proves_no_absence(proc: Proc, file: Listed) -> None:
    """The kernel writes none; it is not kept in memory to see."""
    proc.process(7, b"x" * (1 << 18))
    assert proc.search(file).undecided == {"region"}


def test_another_device_or_inode_is_another_file(proc: Proc, file: Listed) -> None:
    """The name says nothing."""
    proc.process(7, line(file, device=file.device + 1) + line(file, inode=file.inode + 1))
    assert proc.search(file).unmapped == {"region"}


def test_nothing_asked_is_nothing_searched(proc: Proc) -> None:
    """Not a single process is read."""
    shutil.rmtree(proc.root)
    assert proc.search() == holders.Answer()


def test_a_proc_that_hides_processes_proves_no_absence(proc: Proc, file: Listed) -> None:
    """Mounted with hidepid, the first process of the namespace does not show; nor where nothing can be listed."""
    shutil.rmtree(proc.root / "1")
    assert proc.search(file).undecided == {"region"}
    shutil.rmtree(proc.root)
    assert proc.search(file).undecided == {"region"}


def test_a_search_that_takes_too_long_proves_no_absence(
    proc: Proc, file: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at the container has a deadline; what was found by then stands."""
    proc.process(7, line(file))
    assert proc.search(file).mapped == {"region"}
    monkeypatch.setattr(holders, "SECONDS", -1.0)
    assert proc.search(file) == holders.Answer(undecided=frozenset({"region"}))


def test_a_process_with_more_mappings_than_are_read_proves_no_absence(
    proc: Proc, file: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not read to its end; nobody else is concerned."""
    monkeypatch.setattr(holders, "MOST_MAPS_BYTES", 1000)
    proc.process(7, b"7f00-7f10 r--p 00000000 00:00 0 \n" * 100)
    assert proc.search(file).undecided == {"region"}
    proc.process(8, line(file))
    assert proc.search(file).mapped == {"region"}


REFUSED = [
    (b"36 1 %s / /dev/shm rw - tmpfs shm rw\n", b"RssShmem:\t    1024 kB\n", "undecided"),
    (b"36 1 %s / /dev/shm rw - tmpfs shm rw\n", b"RssShmem:\t       0 kB\n", "unmapped"),
    (b"36 1 %s / /dev/shm rw - tmpfs shm rw\n", b"", "undecided"),
    (b"36 1 0:9999 / /dev/shm rw - tmpfs shm rw\n", b"RssShmem:\t    1024 kB\n", "unmapped"),
    (b"36 1 0:9999 / /mnt rw - tmpfs shm rw\n" * 2000, b"RssShmem:\t    1024 kB\n", "undecided"),
    (b"x" * (1 << 17), b"RssShmem:\t    1024 kB\n", "undecided"),
    (None, b"RssShmem:\t    1024 kB\n", "undecided"),
]


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_process_that_refuses_can_have_is_told_by_its_mounts_and_its_pages(
    proc: Proc,
    file: Listed,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[bytes | None, bytes, str],
) -> None:
    """Another file system, or no page of shared memory: it has not the file."""
    mounts, resident, expected = case
    number = b"%d:%d" % (os.major(file.device), os.minor(file.device))
    shown = b"" if mounts is None else mounts.replace(b"%s", number)
    base = proc.process(7, mounts=shown, resident=resident)
    if mounts is None:
        (base / "mountinfo").unlink()
    real = os.open

    def refusing(path: bytes, flags: int, **more: int) -> int:
        if path == os.fsencode(base / "maps"):
            raise PermissionError(errno.EACCES, "refused")
        return real(path, flags, **more)

    monkeypatch.setattr(os, "open", refusing)
    assert getattr(proc.search(file), expected) == {"region"}


def test_a_process_that_can_not_be_read_for_a_reason_of_our_own_may_hold_it(
    proc: Proc, file: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too many open files nobody is found, and nothing is proven by that."""
    base = proc.process(7, line(file))
    real = os.open

    def refusing(path: bytes, flags: int, **more: int) -> int:
        if path == os.fsencode(base / "maps"):
            raise OSError(errno.EMFILE, "too many open files")
        return real(path, flags, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        assert proc.search(file).undecided == {"region"}
    assert proc.search(file).mapped == {"region"}


def test_processes_that_go_while_they_are_searched_hold_nothing(proc: Proc, file: Listed) -> None:
    """A folder without files, a descriptor that was closed, one that leads elsewhere."""
    (proc.root / "8").mkdir()
    proc.process(9, fd=False)
    base = proc.process(10)
    (base / "fd/3").symlink_to("/gone/region")
    (base / "fd/4").symlink_to("/etc/hostname")
    assert proc.search(file).unmapped == {"region"}


def test_open_files_that_may_not_be_listed_are_left_to_the_mappings(
    proc: Proc, file: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SYS_PTRACE alone shows what a process maps, and not its descriptors."""
    proc.process(7, b"")
    real = os.listdir

    def refusing(path: bytes) -> list[bytes]:
        if path.endswith(b"/fd"):
            raise PermissionError(errno.EACCES, "refused")
        return real(path)

    monkeypatch.setattr(os, "listdir", refusing)
    assert proc.search(file).unmapped == {"region"}


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        (b"36 1 0:45 / /dev/shm rw - tmpfs shm rw\n", True),
        (b"35 1 0:44 / /dev/shm rw - tmpfs shm rw\n36 1 0:45 / /dev/shm rw shared:1 - overlay o rw\n", False),
        (b"36 1 0:45 / /dev rw - tmpfs shm rw\n", False),
        (b"", False),
        (b"\n - tmpfs\n/dev/shm", False),
    ],
)
def test_only_on_a_tmpfs_a_number_names_a_file_for_sure(mountinfo: bytes, expected: bool) -> None:  # noqa: FBT001
    """Of two mounts the one on top; an overlay shows other numbers to a mapping than to a listing."""
    assert shm.is_tmpfs(mountinfo) is expected


@pytest.mark.parametrize(
    ("own_pid", "their_ipc", "own_ipc", "expected"),
    [
        (4026531836, 4026531839, 4026531839, False),
        (4026532000, 4026531839, 4026532001, True),
        (4026532000, 4026532001, 4026531839, False),
        (4026532000, None, 4026531839, True),
        (4026532000, None, 4026532001, False),
        (4026532000, None, None, False),
    ],
)
def test_the_machines_own_dev_shm_is_known_by_its_namespace(
    tmp_path: Path,
    own_pid: int,
    their_ipc: int | None,
    own_ipc: int | None,
    expected: bool,  # noqa: FBT001
) -> None:
    """Others than those that are seen from a container may use it; from the machine itself all are seen."""
    for folder, kind, number in (("self", "pid", own_pid), ("5", "ipc", their_ipc), ("self", "ipc", own_ipc)):
        (tmp_path / folder / "ns").mkdir(parents=True, exist_ok=True)
        if number is not None:
            (tmp_path / folder / "ns" / kind).symlink_to(f"{kind}:[{number}]")
    assert shm.shared_beyond(os.fsencode(tmp_path), os.fsencode(tmp_path / "5"), b"") is expected


@pytest.mark.parametrize(
    ("own_pid", "mountinfo", "expected"),
    [
        (4026532000, b"36 1 0:26 / /dev/shm rw,nosuid,nodev master:4 - tmpfs tmpfs rw,inode64\n", True),
        (4026531836, b"36 1 0:26 / /dev/shm rw,nosuid,nodev master:4 - tmpfs tmpfs rw,inode64\n", False),
        (4026532000, b"36 1 0:45 / /dev/shm rw - tmpfs shm rw,size=65536k,inode64\n", False),
        (
            4026532000,
            b"36 1 0:26 / /dev/shm rw - tmpfs a rw\n37 1 0:45 / /dev/shm rw - tmpfs b size=1k\n",
            False,
        ),
        (4026532000, b"36 1 0:45 / /dev/shm rw - ext4 /dev/vda rw\n", False),
    ],
)
def test_a_volume_of_the_machines_dev_shm_is_known_by_the_size_that_nobody_gave_it(
    tmp_path: Path,
    own_pid: int,
    mountinfo: bytes,
    expected: bool,  # noqa: FBT001
) -> None:
    """As ``hostPath`` brings it, with an IPC namespace of the container's own; a pod's own one has a size."""
    for folder, kind, number in (("self", "pid", own_pid), ("5", "ipc", 4026532001)):
        (tmp_path / folder / "ns").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "ns" / kind).symlink_to(f"{kind}:[{number}]")
    assert shm.shared_beyond(os.fsencode(tmp_path), os.fsencode(tmp_path / "5"), mountinfo) is expected


def test_a_folder_that_can_not_be_listed_is_measured_all_the_same(
    namespace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its files nor who holds them are known; a listing that breaks off is none."""
    real = os.open

    def refusing(path: str | bytes, flags: int, **more: int) -> int:
        if path == ".":
            raise PermissionError(errno.EACCES, "refused")
        return real(path, flags, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        use = look(namespace, "x")
    assert (use.size_bytes, use.files) == (16 * MIB, None)

    def breaking(_: int) -> Iterator[os.DirEntry[str]]:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "scandir", breaking)
    assert look(namespace).files is None


def test_a_region_that_is_mapped_here_is_found_by_its_own_process(namespace: int) -> None:
    """The probe itself is one of those that are asked."""
    path = region(inside(namespace), "mine")
    with path.open("r+b") as opened, mmap.mmap(opened.fileno(), 4096):
        assert look(namespace, "mine").mapped == {"mine"}
