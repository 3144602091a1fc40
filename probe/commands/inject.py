"""``inject``: Kubernetes manifests with the sidecar in them, and everything else as it was, byte for byte.

It reads files or standard input, and writes standard output, the files themselves, or a diff.  Nothing is written
before everything was read and edited.
"""

from __future__ import annotations

import contextlib
import difflib
import enum
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence

import click
import msgspec

from probe.manifests.errors import ManifestError
from probe.manifests.injecting import Fate, Outcome, take_out
from probe.manifests.injecting import inject as put_in
from probe.manifests.streams import Report, Stream
from probe.manifests.wishes import Wishes
from probe.manifests.workloads import Workload
from probe.surfaces.plain import one_line

DONE, NOTHING, BAD = 0, 1, 2
STANDARD = "-"
"""The name that stands for standard input."""
LARGEST_BYTES = 64 * 1024 * 1024
"""All objects of a large cluster are smaller; a log or an image given by mistake is told at once."""


class Output(enum.Enum):
    """Where the result goes."""

    STREAM = "stream"
    FILES = "files"
    DIFF = "diff"


class _BadInputError(Exception):
    """What can not be used; the text begins with the file's name."""


class _File(msgspec.Struct, frozen=True):
    name: str
    before: bytes
    stream: Stream

    @property
    def title(self) -> str:
        return "standard input" if self.name == STANDARD else one_line(self.name)


def inject(names: Sequence[str], wishes: Wishes, *, output: Output, removing: bool = False) -> int:
    """Write the manifests, and tell on stderr what was done; 0 done, 1 nothing to do it to, 2 bad input."""
    try:
        files = [_read(name, wishes) for name in names]
        results = list(_edited(files, wishes, removing=removing))
        fates = {_tell(file, each) for file, _, reports in results for each in reports}
        if Fate.UNCLEAR in fates or not (removing or Fate.INJECTED in fates):
            click.echo(
                "triton-probe: nothing was written" if fates else "triton-probe: found no workload", err=True
            )
            return NOTHING
        if removing and Fate.REMOVED not in fates:
            click.echo("triton-probe: found nothing that inject had put in", err=True)
        _write([(file, after) for file, after, _ in results], output)
    except _BadInputError as error:
        click.echo(f"triton-probe: {error}", err=True)
        return BAD
    return DONE


def _read(name: str, wishes: Wishes) -> _File:
    try:
        if name == STANDARD:
            raw = sys.stdin.buffer.read(LARGEST_BYTES + 1)
        else:
            with open(name, "rb") as file:  # noqa: PTH123  (a name may be anything, also "")
                raw = file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        words = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise _BadInputError(f"{one_line(name)}: can not be read: {words}") from None
    title = "standard input" if name == STANDARD else one_line(name)
    if len(raw) > LARGEST_BYTES:
        raise _BadInputError(f"{title}: is larger than {LARGEST_BYTES} bytes, expected Kubernetes manifests")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = 1 + raw.count(b"\n", 0, error.start)
        raise _BadInputError(f"{title}:{line}: is not UTF-8, expected YAML or JSON in UTF-8") from None
    with _naming(title):
        return _File(name, raw, Stream(text, knative=wishes.knative))


def _edited(
    files: list[_File], wishes: Wishes, *, removing: bool
) -> Iterator[tuple[_File, bytes, list[Report]]]:
    """Each file with its new bytes, and what was done in it."""
    runtimes: set[str] = set()
    if not removing:
        for file in files:
            with _naming(file.title):
                runtimes |= file.stream.runtimes()

    def edit(text: str, work: Workload) -> Outcome:
        return take_out(text, work) if removing else put_in(text, work, wishes, frozenset(runtimes))

    for file in files:
        with _naming(file.title):
            after, reports = file.stream.edited(edit)
        yield file, after.encode(), reports


@contextlib.contextmanager
def _naming(title: str) -> Iterator[None]:
    """Errors of a manifest get the name of its file."""
    try:
        yield
    except ManifestError as error:
        raise _BadInputError(f"{title}:{error.line}: {one_line(error.what)}") from None


def _tell(file: _File, report: Report) -> Fate:
    """One line for each thing that was done, and for each that is wrong."""
    about = f"document {report.document}: {one_line(report.title)}"
    for each in report.told:
        click.echo(f"{file.title}:{report.line}: {about}: {one_line(each)}", err=True)
    for line, says in report.advice:
        click.echo(f"{file.title}:{line}: {about}: warning: {one_line(says)}", err=True)
    return report.fate


def _write(results: list[tuple[_File, bytes]], output: Output) -> None:
    if output is Output.FILES:
        _replace([(file, after) for file, after in results if file.before != after])
    elif output is Output.DIFF:
        for file, after in results:
            _print(_diff(file, after))
    else:
        _print(_joined([after for _, after in results]))


def _print(raw: bytes) -> None:
    try:
        click.echo(raw, nl=False)
    except BrokenPipeError:
        raise  # click ends quietly where nobody reads any more
    except OSError as error:
        raise _BadInputError(f"standard output: can not be written: {error.strerror or error}") from None


def _joined(parts: list[bytes]) -> bytes:
    """One stream of several files: a separator where the next one does not begin with its own."""
    stream = parts[0] if parts else b""
    for each in parts[1:]:
        if not stream.endswith(b"\n"):
            stream += b"\n"
        stream += each if each.startswith((b"---\n", b"---\r\n")) else b"---\n" + each
    return stream


def _diff(file: _File, after: bytes) -> bytes:
    """As ``patch`` takes it: lines end with a newline, and with nothing else."""
    old, new = (list(io.StringIO(each.decode(), newline="\n")) for each in (file.before, after))
    name = "stdin" if file.name == STANDARD else f"{file.name}\t" if " " in file.name else file.name
    lines = difflib.unified_diff(old, new, name, name)
    return "".join(
        each if each.endswith("\n") else f"{each}\n\\ No newline at end of file\n" for each in lines
    ).encode("utf-8", "surrogateescape")


def _replace(results: list[tuple[_File, bytes]]) -> None:
    """Put every new file beside its old one, and only then all of them in their places, or none.

    A link stays, mode and owner stay too.
    """
    with contextlib.ExitStack() as left:
        staged = [(file, _stage(file, after, left)) for file, after in results]
        for file, temporary in staged:
            try:
                os.replace(temporary, os.path.realpath(file.name))  # noqa: PTH105
            except OSError as error:
                raise _unwritable(file, error) from None


def _stage(file: _File, after: bytes, left: contextlib.ExitStack) -> str:
    """The name of a new file beside the old one; what is ``left`` of it is cleared away."""
    target = os.path.realpath(file.name)
    folder, name = os.path.split(target)
    try:
        found = os.stat(target)  # noqa: PTH116
        if not stat.S_ISREG(found.st_mode):
            raise _BadInputError(f"{file.title}: is no file that can be written in place, as a pipe is none")
        with open(target, "rb") as now:  # noqa: PTH123
            if now.read() != file.before:
                raise _BadInputError(
                    f"{file.title}: was changed by somebody else meanwhile: nothing was written"
                )
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        left.callback(_clear, temporary)
        with open(descriptor, "wb") as written:  # noqa: PTH123
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, found.st_uid, found.st_gid)
            written.write(after)
            written.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise _unwritable(file, error) from None
    return temporary


def _clear(temporary: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(temporary)  # noqa: PTH108


def _unwritable(file: _File, error: OSError) -> _BadInputError:
    return _BadInputError(f"{file.title}: can not be written: {error.strerror or error}")
