"""Makes the image's root: what the probe needs of the base, and nothing else.

    python3 root.py ENVIRONMENT ROOT

ENVIRONMENT is the virtual environment with the probe; ROOT, an empty folder, becomes the root.  Into it go
ENVIRONMENT, the interpreter and its library, every shared library that one of them links, and the few files of
``/etc`` that the C library and container runtimes look at.  No shell, no package manager and no compiler can
come along, for nothing names them.  A base is a third of what it was then, and the image stays below 150 MB.

Everything is compiled here: a root that is mounted read-only can keep no bytecode, and without it each start
would compile hundreds of modules.  Needs Python 3.11, ``ldd`` and ``ldconfig``; where the base is a Debian, the
packages that files came from are kept by name for scanners, with their licences.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

_UNUSED = {
    # What a server never runs: tests, editors, installers, and documentation.
    *(
        "test",
        "idlelib",
        "turtledemo",
        "tkinter",
        "lib2to3",
        "ensurepip",
        "venv",
        "pydoc_data",
        "__pycache__",
    ),
    *("site-packages", "dist-packages"),  # the base's own; the probe's are in its environment
    *("sqlite3", "curses", "dbm"),
}
_UNUSED_MODULES = (
    "_sqlite3",
    "_curses",
    "readline",
    "_dbm",
    "_gdbm",
    "_tkinter",
    "_test",
    "_ctypes_test",
    "xx",
)
"""Compiled modules, by the beginning of their names, that would bring libraries of megabytes."""
_UNUSED_SCRIPTS = ("python", "triton-probe")
"""Of the environment's ``bin`` only what begins like this is kept."""
_SYSTEM_FILES = (
    "/etc/debian_version",  # by which NVIDIA's container toolkit knows where libraries lie
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/usr/lib/locale/C.utf8",
)
_AUTHORITIES = ("/usr/share/ca-certificates", "/usr/local/share/ca-certificates")
"""Read in place of ``/etc/ssl/certs``, over which a build may have mounted the certificates of its machine."""
_USERS = "root:x:0:0:root:/:/\ntriton-probe:x:1000:1000:triton-probe:/:/\n"
_GROUPS = "root:x:0:\ntriton-probe:x:1000:\n"


class Root:
    """A root that is being filled; paths are those of the base, and the same in the root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: set[Path] = set()
        """Real files that were brought, links resolved."""

    def bring(self, path: Path) -> None:
        """Copy a file, or everything below a folder, with each link on the way to it."""
        real = self._walk(path)
        if real.is_dir():
            for each in sorted(real.iterdir()):
                if not _unused(each):
                    self.bring(each)
        elif real.is_file() and real not in self.files:
            shutil.copy2(real, self.inside(real))
            if real.suffix == ".py":  # some packages ship their modules as programs
                self.inside(real).chmod(0o644)
            self.files.add(real)

    def write(self, path: str, text: str) -> None:
        """Write a file of our own."""
        file = self.inside(Path(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def inside(self, path: Path) -> Path:
        """Where a path of the base lies in the root."""
        return self.folder / path.relative_to("/")

    def _walk(self, path: Path) -> Path:
        """Make the folders and links that lead to this path; where they lead."""
        here, left = Path("/"), list(path.parts[1:])
        while left:
            step = left.pop(0)
            here = here.parent if step == ".." else here / step
            if here.is_symlink():
                link = here.readlink()
                if not self.inside(here).is_symlink():
                    self.inside(here).symlink_to(link)
                left[:0] = [each for each in link.parts if each != "/"]
                here = Path("/") if link.is_absolute() else here.parent
            elif here.is_dir():
                self.inside(here).mkdir(exist_ok=True)
        return here


def _unused(path: Path) -> bool:
    if path.parent.name == "lib-dynload":
        return path.name.startswith(_UNUSED_MODULES)
    if path.parent == Path(sysconfig.get_path("stdlib")):
        return path.name in _UNUSED or path.name.startswith("config-") or path.suffix == ".a"
    return path.name == "__pycache__"


def _libraries(files: Iterable[Path]) -> Iterator[Path]:
    """The shared libraries that these files link, the loader too."""
    compiled = []
    for each in files:
        with each.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                compiled.append(each)
    if not compiled:
        return
    told = subprocess.run(["ldd", *compiled], capture_output=True, text=True, check=False).stdout
    for line in told.splitlines():
        if "not found" in line:
            sys.exit(f"root.py: a library is missing in the base: {line.strip()}")
        words = line.rpartition(" (0x")[0].split()
        if line.startswith("\t") and words and words[-1].startswith("/"):
            yield Path(words[-1])


def _with_libraries(root: Root) -> None:
    pending = set(root.files)
    while pending:
        before = set(root.files)
        for each in set(_libraries(sorted(pending))):
            root.bring(each)
        pending = root.files - before


def _packages(root: Root, sources: Iterable[Path]) -> None:
    """Keep by name which packages these files came from, and their licences, as images without a dpkg do it."""
    owners: set[str] = set()
    # Where / was merged into /usr, dpkg may know a file by either of its names.
    named = [name for each in sources for name in (str(each), str(each).removeprefix("/usr"))]
    told = subprocess.run(["dpkg", "-S", *named], capture_output=True, text=True, check=False).stdout
    for line in told.splitlines():
        owners.update(each.strip() for each in line.rpartition(": ")[0].split(","))
    for owner in sorted(each for each in owners if each and not each.startswith("diversion")):
        about = subprocess.run(["dpkg-query", "-s", owner], capture_output=True, text=True, check=True).stdout
        name = owner.partition(":")[0]
        root.write(f"/var/lib/dpkg/status.d/{name}", about)
        licence = Path(f"/usr/share/doc/{name}/copyright")
        if licence.exists():
            root.bring(licence)


def _certificates() -> list[Path]:
    return [each for folder in _AUTHORITIES for each in sorted(Path(folder).rglob("*.crt"))]


def _compile(folder: Path, root: Path) -> None:
    """Compile without a stamp of the source's time: layers round times, and sources here never change."""
    whole = compileall.compile_dir(
        folder,
        quiet=1,
        force=True,
        workers=0,
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not whole:
        sys.exit(f"root.py: not everything in {folder} compiles")


def main(environment: Path, folder: Path) -> None:
    """Make the root."""
    for each in (environment / "bin").iterdir():
        if not each.name.startswith(_UNUSED_SCRIPTS):
            each.unlink()
    root = Root(folder)
    root.bring(environment)
    root.bring(Path(sysconfig.get_path("stdlib")))
    _with_libraries(root)
    for name in _SYSTEM_FILES:
        if Path(name).exists():
            root.bring(Path(name))
    root.write("/etc/passwd", _USERS)
    root.write("/etc/group", _GROUPS)
    certificates = _certificates()
    bundle = "".join(f"{each.read_text().strip()}\n" for each in certificates)
    root.write("/etc/ssl/certs/ca-certificates.crt", bundle)
    if shutil.which("dpkg"):
        _packages(root, [*root.files, *certificates])
    for each in (environment, Path(sysconfig.get_path("stdlib"))):
        _compile(root.inside(each.resolve()), folder)
    subprocess.run(["ldconfig", "-r", folder], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
