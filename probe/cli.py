"""The command line: what is typed becomes values, and the command's own module is imported only then.

``check`` runs every few seconds as an exec probe, so nothing heavier than click may be imported here.
"""
# ruff: noqa: PLC0415 - a command pays only for what it needs itself

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from probe import __version__
from probe.kits.quantities import format_size, parse_duration, parse_size

if TYPE_CHECKING:
    from probe.commands.asking import Target
    from probe.facts.wiring import Amounts
    from probe.manifests.users import User
    from probe.manifests.wishes import GateProbe
    from probe.settings import Loaded

FLAGS = {
    "--grpc": ("triton.grpc", "ADDRESS", "Triton's gRPC address."),
    "--http": ("triton.http", "ADDRESS", "Triton's HTTP address."),
    "--metrics": ("triton.metrics", "ADDRESS", "Triton's metrics address."),
    "--listen": ("listen", "ADDRESS", "Where to answer HTTP."),
    "--grpc-listen": ("grpc_listen", "ADDRESS", "Where to answer grpc.health.v1 (off unless set)."),
    "--interval": ("interval", "DURATION", "How often to look, as 5s."),
    "--required": ("models.required", "MODEL", "A model that must be ready; repeat for more."),
    "--placement-default": ("placement.default", "POLICY", "auto, gpu, cpu or any."),
    "--log-level": ("log.level", "LEVEL", "debug, info, warning or error."),
    "--log-format": ("log.format", "FORMAT", "json or console."),
}
"""Flags that have a name of their own: the knob's dotted path, what to write there, and the help."""

_QUANTITY = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,9})?(?:m|k|[MGTPE]|[KMGTPE]i)?")


class ConfigurationError(click.ClickException):
    """A configuration that can not be used: one line, and exit status 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the line."""
        click.echo(f"triton-probe: {self.message}", file=file or sys.stderr)


def _parameter(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def with_settings(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command the options that every knob can be set with, and exit with what it returns."""

    @functools.wraps(command)
    def run(config: Path | None, assignments: tuple[str, ...], **values: Any) -> None:  # noqa: ANN401 - as typed
        flags = {path: values.pop(_parameter(flag)) for flag, (path, _, _) in FLAGS.items()}
        sys.exit(command(_load(config, assignments, flags), **values))

    decorated: Callable[..., None] = click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KNOB=VALUE",
        help="Any other knob, as triton.timeout=3s; repeat for more.",
    )(run)
    for flag, (_, metavar, text) in reversed(FLAGS.items()):
        multiple = flag == "--required"
        option = click.option(flag, _parameter(flag), metavar=metavar, help=text, multiple=multiple)
        decorated = option(decorated)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings in YAML; TRITON_PROBE_CONFIG where not given.",
    )(decorated)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="triton-probe", message="%(prog)s %(version)s")
def group() -> None:
    """Health and device-placement probe for NVIDIA Triton Inference Server."""


@group.command()
@with_settings
def serve(loaded: Loaded) -> int:
    """Watch Triton and answer its probes, until SIGTERM.

    Exits 0 after a signal, 2 where the configuration can not be used.
    """
    from probe import daemon

    return daemon.run(loaded.settings)


def _asking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of those that ask a running daemon."""
    timeout = click.option(
        "--timeout", default="2s", show_default=True, metavar="DURATION", help="How long to wait in all."
    )
    url = click.option(
        "--url",
        envvar="TRITON_PROBE_URL",
        default="http://127.0.0.1:8003",
        show_default=True,
        show_envvar=True,
        help="Where the daemon answers.",
    )
    decorated: Callable[..., None] = url(timeout(command))
    return decorated


def _target(url: str, timeout: str) -> tuple[Target, float]:
    """Whom to ask, and for how many seconds."""
    from probe.commands.asking import Target

    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from None
    if not seconds:
        raise click.BadParameter("found '0', expected a duration above 0", param_hint="--timeout")
    try:
        return Target.parse(url), seconds
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from None


@group.command()
@click.option(
    "--gate",
    type=click.Choice(["live", "ready", "startup", "health"]),
    default="ready",
    show_default=True,
    help="The question to ask; health is about the daemon itself, whatever Triton does.",
)
@click.option("--model", "models", multiple=True, metavar="MODEL", help="Only this model; repeat for more.")
@click.option(
    "--exclude", "excluded", multiple=True, metavar="REASON", help="Leave a reason out; repeat for more."
)
@_asking
@click.option("--verbose", is_flag=True, help="List every check, the passed ones too.")
@click.option(
    "--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def check(gate: str, url: str, timeout: str, **asked: Any) -> None:  # noqa: ANN401 - as typed
    """Ask a running daemon, and print its answer.

    Exits 0 when the gate is open, 1 when it fails, 3 when there is no answer, 2 on wrong usage.
    """
    from probe.commands import check as command

    if gate == "health" and any(value not in ((), False, "text") for value in asked.values()):
        raise click.BadParameter(
            "health is about the daemon alone, expected none of --model, --exclude, --verbose, --format json",
            param_hint="--gate",
        )
    target, seconds = _target(url, timeout)
    sys.exit(command.check(target, gate, seconds, **asked))


@group.command(short_help="Look once at everything here, without a daemon.")
@click.option(
    "--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
@with_settings
def doctor(loaded: Loaded, output_format: str) -> int:
    """Look once at everything here, without a daemon: where models run, what is wrong, what to do.

    Exits 0 with nothing above info, 1 with warnings, 2 with something critical (or a configuration that
    can not be used), 3 where it could not look.
    """
    from probe.commands import doctor as command

    return command.doctor(loaded.settings, output_format=output_format)


def _size(_: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Bytes of an option's size; none of zero bytes has a meaning here."""
    if value is None:
        return None
    try:
        size = parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None
    if not size:
        raise click.BadParameter("found '0', expected a size above 0", param=parameter)
    return size


def _rules(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - as click calls it
    if value and not context.resilient_parsing:
        from probe.commands import audit as command

        command.show_rules()
        context.exit()


@group.command(short_help="Read a model repository's config.pbtxt files, without a server.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path())
@click.option(
    "--device",
    type=click.Choice(["auto", "gpu", "cpu", "any"]),
    help="Where a model is wanted that says nothing itself; in place of placement.default.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The probe's own settings (placement, models.ignore); TRITON_PROBE_CONFIG where not given.",
)
@click.option(
    "--shm", "shm_bytes", metavar="SIZE", callback=_size, help="The size of Triton's /dev/shm, as 64Mi."
)
@click.option(
    "--memory",
    "memory_bytes",
    metavar="SIZE",
    callback=_size,
    help="The memory limit of Triton's container, as 4Gi.",
)
@click.option("--gpus", type=click.IntRange(1, 1024), metavar="N", help="How many GPUs Triton will have.")
@click.option(
    "--stub-shm",
    "stub_shm_bytes",
    metavar="SIZE",
    default="1Mi",
    show_default=True,
    callback=_size,
    help="A stub's first region, and each step by which it grows (shm-default-byte-size); 64Mi before release 23.09.",
)
@click.option(
    "--stub-memory",
    "stub_memory_bytes",
    metavar="SIZE",
    default="17Mi",
    show_default=True,
    callback=_size,
    help="What one stub holds; the default is one whose model does nothing.",
)
@click.option(
    "--model-config-name", "config_name", default="", metavar="NAME", help="As Triton's: configs/NAME.pbtxt."
)
@click.option(
    "--exclude", "excluded", multiple=True, metavar="RULE", help="Leave a rule out; repeat for more."
)
@click.option("--fix", is_flag=True, help="Write an instance_group into files that have none.")
@click.option("--dry-run", is_flag=True, help="With --fix: show what would be written, and write nothing.")
@click.option(
    "--rules", is_flag=True, is_eager=True, expose_value=False, callback=_rules, help="List the rules."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
)
def audit(
    paths: tuple[str, ...],
    device: str | None,
    config: Path | None,
    *,
    fix: bool,
    dry_run: bool,
    config_name: str,
    excluded: tuple[str, ...],
    output_format: str,
    **sizes: Any,  # noqa: ANN401 - as typed
) -> None:
    """Read a model repository's config.pbtxt files: models that would run elsewhere than meant, or not at all.

    PATH is a model repository, one model's folder, or one config.pbtxt; several go to one Triton together.
    Needs no server and no GPU. A model says where it belongs by its parameter triton_probe.device, --config
    by placement.models, --device for all others.

    Exits 0 where all is well, 1 with findings, 2 where something could not be read.
    """
    from probe.checks.audit.terms import Terms
    from probe.commands import audit as command

    if dry_run and not fix:
        raise click.BadParameter("goes with --fix alone", param_hint="--dry-run")
    for rule in excluded:
        if trouble := command.unknown_rule(rule):
            raise click.BadParameter(trouble, param_hint="--exclude")
    loaded = _load(config, (), {"placement.default": device})
    terms = Terms(loaded.settings, f"--device {device}" if device else "", **sizes)
    sys.exit(
        command.audit(
            paths,
            terms,
            config_name=config_name,
            excluded=excluded,
            fixing=command.Fixing(preview=dry_run) if fix else None,
            output_format=output_format,
        )
    )


def _amounts(_: click.Context, parameter: click.Parameter, value: str | None) -> Amounts | None:
    """Quantities as ``kubectl set resources`` takes them: cpu=50m,memory=128Mi."""
    if value is None:
        return None
    from probe.facts.wiring import Amounts

    found: dict[str, str] = {}
    for each in value.split(","):
        name, equals, amount = (part.strip() for part in each.partition("="))
        if not equals or name not in ("cpu", "memory") or not _QUANTITY.fullmatch(amount):
            raise click.BadParameter(
                f"found {each.strip()!r}, expected cpu=AMOUNT or memory=AMOUNT, as cpu=50m,memory=128Mi",
                param=parameter,
            )
        found[name] = amount
    return Amounts(**found)


_LARGEST_ID = 2**31 - 1
"""Of a uid or gid in Kubernetes; OpenShift's have ten digits."""


def _user(_: click.Context, parameter: click.Parameter, value: str | None) -> User | None:
    """A uid, a uid and a gid, or none of both."""
    if value is None:
        return None
    from probe.manifests.users import User

    match = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?", value)
    if value != "none" and (match is None or any(int(each) > _LARGEST_ID for each in match.groups("0"))):
        raise click.BadParameter(f"found {value!r}, expected UID, UID:GID or none", param=parameter)
    return User() if match is None else User(int(match[1]), None if match[2] is None else int(match[2]))


def _release(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """The two numbers of a Kubernetes release."""
    if value is None:
        return None
    match = re.fullmatch(r"v?([0-9]{1,3})\.([0-9]{1,3})(?:[.+-].*)?", value)
    if match is None:
        raise click.BadParameter(f"found {value!r}, expected a release such as 1.29", param=parameter)
    return int(match[1]), int(match[2])


def _shm(context: click.Context, parameter: click.Parameter, value: str) -> str | None:
    """A size as a manifest spells it, or no volume."""
    if value == "none":
        return None
    return format_size(_size(context, parameter, value) or 0)


def _gates(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[GateProbe, ...]:
    """Gates with commas between."""
    from probe.manifests.wishes import GateProbe

    names = {each.value for each in GateProbe}
    wanted = [each.strip() for each in (value or "").split(",") if each.strip() not in ("", "none")]
    for each in wanted:
        if each not in names:
            raise click.BadParameter(
                f"found {each!r}, expected some of readiness, liveness and startup, with commas between",
                param=parameter,
            )
    return tuple(each for each in GateProbe if each.value in wanted)


def _image(_: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*", value):
        raise click.BadParameter(
            f"found {value!r}, expected an image such as registry/triton-probe:0.1.0", param=parameter
        )
    return value


@group.command(short_help="Write the sidecar into Kubernetes manifests.")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(),
    help="YAML or JSON; - is standard input, which is the default. Repeat for more.",
)
@click.option("-i", "--in-place", is_flag=True, help="Write the files themselves.")
@click.option("--diff", is_flag=True, help="Print what would change, and write nothing.")
@click.option("--remove", is_flag=True, help="Take out what inject has put in: the manifests as they were.")
@click.option("--container", metavar="NAME", help="Triton's container, where it can not be told.")
@click.option(
    "--image",
    callback=_image,
    metavar="IMAGE",
    help="The probe's image; triton-probe:VERSION where not given.",
)
@click.option(
    "--gates",
    callback=_gates,
    metavar="GATES",
    help="Which probes of Triton's container ask the sidecar: readiness,liveness,startup. None where not given.",
)
@click.option(
    "--existing",
    type=click.Choice(["keep", "replace"]),
    default="keep",
    show_default=True,
    help="What to do with probes that Triton's container has, where --gates names them.",
)
@click.option(
    "--native",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="As an init container that is restarted always; auto: for Jobs, and where --kubernetes is 1.29 or later.",
)
@click.option("--kubernetes", callback=_release, metavar="RELEASE", help="The cluster's release, as 1.29.")
@click.option("--knative", is_flag=True, help="KServe's InferenceServices are run by Knative.")
@click.option(
    "--shm",
    callback=_shm,
    metavar="SIZE",
    default="1Gi",
    show_default=True,
    help="The size of Triton's /dev/shm where it has no volume there; none adds none.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8003,
    show_default=True,
    help="Where the sidecar answers.",
)
@click.option(
    "--user",
    callback=_user,
    metavar="UID[:GID]",
    help="What Triton runs as, where the manifest does not say; none leaves it to the platform.",
)
@click.option(
    "--nvml",
    type=click.Choice(["none", "env", "runtime-class"]),
    default="none",
    show_default=True,
    help="How the sidecar sees GPUs, of which it reserves none: by NVIDIA_VISIBLE_DEVICES, or a runtime class too.",
)
@click.option(
    "--requests", callback=_amounts, metavar="AMOUNTS", help="The sidecar's, as cpu=20m,memory=96Mi."
)
@click.option("--limits", callback=_amounts, metavar="AMOUNTS", help="The sidecar's, as memory=192Mi.")
def inject(
    files: tuple[str, ...],
    *,
    in_place: bool,
    diff: bool,
    remove: bool,
    image: str | None,
    existing: str,
    native: str,
    nvml: str,
    **wanted: Any,  # noqa: ANN401 - as typed
) -> None:
    """Write the sidecar into Kubernetes manifests, and leave everything else as it is.

    Knows Pods and what makes them (Deployment, StatefulSet, DaemonSet, Job, CronJob, ReplicaSet), KServe's
    InferenceService and serving runtimes, and Knative's Service. Without --gates the sidecar only observes. Twice is
    the same as once, with other options it is written anew, and --remove gives the manifests back as they were.

    Exits 0, or 1 where nothing runs Triton or it can not be told which container does, or 2 where something can not
    be read. Says on stderr what it changed, and what is wrong around Triton.
    """
    from probe.commands import inject as command
    from probe.facts.wiring import IMAGE
    from probe.manifests.wishes import Existing, Native, Nvml, Wishes

    if not files and sys.stdin.isatty():
        raise click.UsageError("found neither -f FILE nor a pipe, expected Kubernetes manifests")
    names = files or (command.STANDARD,)
    if len({os.path.realpath(each) for each in names}) != len(names):
        raise click.BadParameter("found a file twice, expected each once", param_hint="--file")
    if in_place and (diff or command.STANDARD in names):
        raise click.BadParameter("goes with -f FILE, and without --diff", param_hint="--in-place")
    output = command.Output.FILES if in_place else command.Output.DIFF if diff else command.Output.STREAM
    wishes = Wishes(
        image=image or IMAGE,
        existing=Existing(existing),
        native=Native(native),
        nvml=Nvml(nvml),
        **wanted,
    )
    sys.exit(command.inject(names, wishes, output=output, removing=remove))


@group.command(short_help="Print resources for Triton's container, from what a running daemon saw.")
@_asking
@click.option(
    "--format", "output_format", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True
)
def size(url: str, timeout: str, output_format: str) -> None:
    """Ask a running daemon what Triton took at its highest, and print resources to paste into its manifest.

    Each line says which figure it comes from. Where the daemon has watched too little to tell, the first lines say
    so, and the figures follow all the same. Exits 0, or 3 when there is no answer; 2 on wrong usage.
    """
    from probe.commands import size as command

    target, seconds = _target(url, timeout)
    sys.exit(command.size(target, seconds, output_format=output_format))


@group.command()
@click.argument("reason", required=False)
@click.option(
    "--format", "output_format", type=click.Choice(["text", "json"]), default="text", show_default=True
)
def reasons(reason: str | None, output_format: str) -> None:
    """Print the catalogue of reasons, or one REASON in detail."""
    from probe.commands import reasons as command

    sys.exit(command.reasons(reason, output_format=output_format))


@group.command()
@click.option(
    "--format", "output_format", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True
)
@with_settings
def config(loaded: Loaded, output_format: str) -> int:
    """Print the settings in force, and where each came from."""
    from probe.commands import config as command

    return command.config(loaded, output_format=output_format)


@group.command(short_help="Run a real Triton with sample models beside the daemon.")
@click.option("--keep", is_flag=True, help="Stay when all was shown, until Ctrl-C.")
def demo(*, keep: bool) -> None:
    """Run a real Triton with sample models beside the daemon, on this machine; needs no GPU."""
    from probe.commands import demo as command

    sys.exit(command.demo(keep=keep))


def main() -> None:
    """Run the command line and exit."""
    group(prog_name="triton-probe")


def _load(config: Path | None, assignments: tuple[str, ...], flags: dict[str, object]) -> Loaded:
    """Read the layers; a flag that was not given is None or an empty tuple."""
    import os

    from probe.settings import SettingsError, load

    given = {path: value for path, value in flags.items() if value not in (None, ())}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise click.BadParameter(f"found {assignment!r}, expected KNOB=VALUE", param_hint="--set")
        if path in flags and path in given:
            raise click.BadParameter(
                f"{path} is given by its own flag too, expected once", param_hint="--set"
            )
        given[f"--set {path.strip()}"] = value
    try:
        return load(config, os.environ, given)
    except SettingsError as error:
        raise ConfigurationError(str(error)) from None
