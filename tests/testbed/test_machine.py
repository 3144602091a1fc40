"""What the small virtual machine is booted with, and the pods that are made in it; the scenarios boot it."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.machine.initramfs import MODULES, LayoutError, Share, initramfs
from testbed.machine.kubelet import Resources

MIB = 1 << 20


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A kernel's modules as the set-up unpacks them: each a file that says what it needs."""
    needs = {
        "virtio_pci": "",
        "virtio_console": "",
        "9pnet_virtio": "9pnet",
        "9pnet": "built-in",
        "9p": "9pnet,netfs",
    }
    (tmp_path / "kernel").mkdir()
    for name, depends in {**needs, "netfs": ""}.items():
        text = f"\x7fELF\0license=GPL\0depends={depends}\0name={name}\0"
        (tmp_path / "kernel" / f"{name}.ko").write_bytes(text.encode())
    (tmp_path / "modules.builtin").write_text("kernel/lib/built-in.ko\n")
    (tmp_path / "busybox").write_bytes(b"busybox")
    return tmp_path


def _order(archive: bytes) -> list[str]:
    """The names in the archive's list of modules."""
    head = archive.index(b"modules/order\0")
    end = archive.index(b"070701", head)
    return [line for line in archive[head:end].decode().split("\0")[-4:] for line in line.split()] or []


def test_modules_are_loaded_after_those_that_they_need(tools: Path) -> None:
    """What is built into the kernel needs no file; names differ in dashes."""
    archive = initramfs(tools, [Share("share0", Path("/usr"))], [("usr/bin", "/bin")], "exec true\n")
    order = _order(archive)
    assert {f"{name}.ko" for name in MODULES} < set(order)
    assert order.index("9pnet.ko") < order.index("9pnet_virtio.ko")
    assert order.index("netfs.ko") < order.index("9p.ko")
    assert b"share0 /usr\n" in archive
    assert b"usr/bin /bin\n" in archive
    assert archive.endswith(b"TRAILER!!!\0\0\0\0")
    assert len(archive) % 4 == 0


def test_a_kernel_that_lacks_a_module_is_refused_with_its_name(tools: Path) -> None:
    """As Debian's -cloud kernels lack 9p."""
    (tools / "kernel" / "9p.ko").unlink()
    with pytest.raises(LayoutError, match="'9p'"):
        initramfs(tools, [], [], "")


@pytest.mark.parametrize(
    ("resources", "qos", "score", "weight"),
    [
        (Resources(), "besteffort", 1000, 1),
        (Resources(pids_limit=10, kill_alone=True), "besteffort", 1000, 1),
        (Resources(memory_request=MIB, memory_limit=2 * MIB), "burstable", 500, 1),
        (Resources(cpu_request=1000), "burstable", 500, 39),
        (
            Resources(memory_request=MIB, memory_limit=MIB, cpu_request=2000, cpu_limit=2000),
            "guaranteed",
            -997,
            79,
        ),
        (Resources(memory_request=MIB, memory_limit=MIB), "burstable", 500, 1),
    ],
)
def test_a_pods_class_and_what_follows_from_it_are_the_kubelets(
    resources: Resources, qos: str, score: int, weight: int
) -> None:
    """Guaranteed only where both have a limit, and no less is requested; shares become a weight as in runc."""
    assert (resources.qos, resources.oom_score_adj, resources.weight) == (qos, score, weight)


def test_what_is_not_limited_is_written_as_max(tmp_path: Path) -> None:
    """And the kill of a whole container is the default."""
    Resources(cpu_limit=1500, cpu_request=500).write(tmp_path)
    written = {each.name: each.read_text() for each in tmp_path.iterdir()}
    assert written["memory.max"] == written["pids.max"] == "max"
    assert written["cpu.max"] == "150000 100000"
    assert written["memory.oom.group"] == "1"
