"""`ecliptic bench`: how fast a model runs on this machine, beside open_clip."""

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.completion import complete_models
from ecliptic.cli.exits import checks_usage
from ecliptic.cli.flags import (
    MODEL_HELP,
    Device,
    IdentityFlags,
    Json,
    KernelsFlag,
    PixelsFlag,
    PreprocessFlag,
    VectorPrecisionFlag,
    expands,
    say_note,
)
from ecliptic.cli.output import (
    print_choices,
    print_facts,
    print_json,
    print_table,
    print_text,
    print_wrapped,
    say,
)
from ecliptic.cli.wording import name_flags
from ecliptic.speed import PeerName, SpeedSettings

if TYPE_CHECKING:
    from ecliptic.engine import Clip
    from ecliptic.speed import MemoryUse, RunSpread, SpeedReport

_RANDOM_HELP = (
    "Architecture to measure with random weights, such as ViT-B-32, in place of MODEL; nothing is "
    "downloaded, and the speed is that of its released weights."
)


@dataclasses.dataclass(frozen=True)
class SpeedFlags:
    """What is measured, and for how long."""

    batch: Annotated[
        str, typer.Option(metavar="N[,N...]", help="Sizes of batches, of images and of captions.")
    ] = ",".join(map(str, SpeedSettings.batches))
    seconds: Annotated[
        float,
        typer.Option(
            help="Time for all measurements, a first run of each included; loading comes on top."
        ),
    ] = SpeedSettings.seconds
    peer: Annotated[
        PeerName,
        typer.Option(help="Library to measure in turns with the same weights, if it is installed."),
    ] = SpeedSettings.peer

    def settings(self) -> SpeedSettings:
        """The settings that the flags stand for."""
        words = [word.strip() for word in self.batch.split(",")]
        if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
            raise typer.BadParameter(
                f"--batch must be whole numbers with commas between, such as 1,8,32; got "
                f"{self.batch!r}."
            )
        with checks_usage():
            return SpeedSettings(tuple(map(int, words)), self.seconds, self.peer)


@expands
def bench(
    *,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", help=MODEL_HELP, autocompletion=complete_models, show_default="mini"
        ),
    ] = None,
    random: Annotated[str | None, typer.Option(metavar="ARCH", help=_RANDOM_HELP)] = None,
    measured: SpeedFlags,
    device: Device = "auto",
    precision: VectorPrecisionFlag = "auto",
    kernels: KernelsFlag = "auto",
    preprocess: PreprocessFlag = None,
    pixels: PixelsFlag = None,
    identity: IdentityFlags,
    json: Json = False,
) -> None:
    """Measure how fast MODEL runs on this machine.

    Images and captions a second by size of batch, the time to load, memory, and how the model runs
    here and why; about a minute in all. Inputs are made, so no data is needed. If open_clip is
    installed, it is measured with the same weights and inputs, in turns.
    """
    from ecliptic.engine import resolve_device
    from ecliptic.speed import measure_speed

    settings = measured.settings()
    _check_random(random, model, identity)
    once = cache(lambda text: say_note(f"{text}; the row of loading holds its time"))
    with _source(model, random) as source:

        def load() -> "Clip":
            flags = identity if random is None else IdentityFlags()
            how = {"kernels": kernels, "preprocess": preprocess, "pixels": pixels, "notify": once}
            return flags.load(source, device=device, precision=precision, **how)

        report = measure_speed(load, resolve_device(device), settings, say)
    if json:
        print_json(report.to_dict())
    else:
        _print(report)


def _check_random(random: str | None, model: str | None, identity: IdentityFlags) -> None:
    """Raise for a flag that has no effect with --random."""
    if random is None:
        return
    if model is not None:
        raise typer.BadParameter(
            f"name either MODEL or --random: {model} has weights of its own; leave one out."
        )
    if random == "mini":
        raise typer.BadParameter("mini is built in with its weights; leave --random out.")
    for field in dataclasses.fields(identity):
        if getattr(identity, field.name) != field.default:
            flag = f"--{field.name.replace('_', '-')}"
            raise typer.BadParameter(
                f"{flag} has no effect with --random, which knows all settings and downloads "
                "nothing; leave it out."
            )


@contextlib.contextmanager
def _source(model: str | None, random: str | None) -> Iterator[str]:
    """What to load: MODEL, or a temporary folder with random weights."""
    from ecliptic.speed import random_checkpoint

    if random is None:
        yield model or "mini"
        return
    say(f"making random weights of {random}")
    with random_checkpoint(random) as path:
        yield str(path)


def _print(report: "SpeedReport") -> None:
    print_facts(_facts(report))
    print_text("\nHow it runs:", lines=True)
    print_choices(report.choices)
    print_text("\nImages or captions a second, median and range of the runs:", lines=True)
    columns = ("what", "batch ", "a second ", "lowest ", "highest ", "runs ")
    print_table(columns, ((row.what, row.batch, *_cells(row.rate)) for row in report.rows))
    if any(row.peer for row in report.rows):
        _print_beside(report)
    for note in report.notes:
        print_text("")
        print_wrapped(name_flags(note))


def _print_beside(report: "SpeedReport") -> None:
    print_text(f"\nBeside {report.peer}, with the same weights and inputs, in turns:", lines=True)
    columns = ("what", "batch ", "ecliptic ", "open_clip ", "ratio ", "cosine ")
    rows = [
        (
            row.what,
            row.batch,
            _number(row.rate.median),
            _number(row.peer.rate.median),
            f"{row.peer.ratio:.2f}",
            f"{row.peer.cosine:.6f}",
        )
        for row in report.rows
        if row.peer
    ]
    print_table(columns, rows)
    print_wrapped(
        "ratio: above 1, ecliptic is faster. cosine: the smallest between both vectors of an item."
    )


def _cells(rate: "RunSpread") -> tuple[str, ...]:
    return (_number(rate.median), _number(rate.low), _number(rate.high), str(rate.runs))


def _number(value: float) -> str:
    """At least three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.{1 if value >= 10 else 2}f}"


def _facts(report: "SpeedReport") -> dict[str, str]:
    model, machine = report.model, report.machine
    takes = []
    if model.image_size:
        takes.append(f"{model.image_size} pixels ({model.preprocess})")
    if model.context:
        takes.append(f"{model.context} tokens")
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    facts = {
        "model": f"{model.name}: {model.parameters / 1e6:.1f} M parameters, "
        f"{_size(model.weight_bytes)} in {model.precision}",
        "takes": ", ".join(takes),
        "device": machine.accelerator or machine.device,
        "processor": f"{machine.processor}; {threads} of torch on {cores}",
        "instructions": _instructions(machine.instructions, machine.lacking, machine.torch_uses),
        "torch": machine.torch,
        "loading": f"{report.load.median:.3f} s ({report.load.low:.3f} to {report.load.high:.3f}, "
        f"{report.load.runs} times)",
    }
    if machine.busy:
        facts["busy"] = (
            f"{machine.load:.1f} programs used or wanted a core before this began, so the numbers "
            "may be too low; close them and measure again"
        )
    for use in report.memory:
        facts[_MEMORY[use.where]] = _memory(use)
    if not report.memory:
        facts["memory"] = "not known on this system"
    return facts


_MEMORY = {"process": "memory", "device": "on the device"}


def _memory(use: "MemoryUse") -> str:
    return (
        f"{_size(use.before)} before loading, {_size(use.loaded)} after it (weights count when "
        f"they are first read), {_size(use.peak)} at the peak of all rows"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _instructions(has: tuple[str, ...], lacks: tuple[str, ...], used: str) -> str:
    if not has:
        return f"torch uses {used}"
    without = f"; without {', '.join(lacks)}" if lacks else ""
    return f"{', '.join(has)}{without}; torch uses {used}"
