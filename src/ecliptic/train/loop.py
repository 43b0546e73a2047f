"""`train` and `resume`: data in, steps, evaluations, states and a history out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ecliptic.errors import ConfigError, StorageError
from ecliptic.settings import apply_overrides, from_dict, to_dict
from ecliptic.train.history import Report
from ecliptic.train.processes import join
from ecliptic.train.run_folder import SETTINGS, RunFolder
from ecliptic.train.session import Run, Session, Stop
from ecliptic.train.settings import OptimSettings, TrainSettings

# Settings that may change when a run goes on: they change no weight of any step.
FREE = (
    *("name", "device", "store", "log_every", "tensorboard", "processes"),
    *("data.root", "data.workers", "data.ahead", "data.most_rejects"),
    *("optim.most_skipped", "evaluate.every"),
    *("checkpoints.every", "checkpoints.minutes", "checkpoints.keep"),
)
_WHEN_STEPS = "; steps too with the schedules constant and inverse-sqrt without a cooldown"


def train(
    settings: TrainSettings,
    out: Path,
    report: Report = lambda _: None,
    stop: Stop = lambda: False,
    *,
    overwrite: bool = False,
) -> Run:
    """Train a CLIP, and write the run into the folder `out`.

    In the processes that torchrun starts, all make the steps together; rank 0 writes and reports.

    Args:
        settings: the recipe.
        out: an empty or new folder.
        report: gets each line of the history: a dictionary with a "step" and numbers.
        stop: asked after each step; True ends the run there, with a state to go on from.
        overwrite: replace a run that is in `out`; its other files stay.

    Raises:
        ConfigError: settings that contradict each other, or have no effect.
        NumericalError: gradients were not finite for too many steps in a row.
        ProcessError: another process of the run died or hangs.
        StorageError: data is missing, too much of it cannot be read, or a file cannot be written.
        MissingExtraError: a setting needs a package that is not installed.
    """
    folder = RunFolder(out, settings.checkpoints.keep)
    with join(settings.processes, settings.device) as world:
        if world.rank == 0 and out.is_dir() and any(out.iterdir()) and not overwrite:
            fix = f"go on with its run (--resume {out}), " if (out / SETTINGS).exists() else ""
            raise StorageError(
                f"{out} is not empty; {fix}name another folder, or pass overwrite=True to replace "
                "the run in it."
            )
        session = Session(settings, folder, report, stop, world=world)
        world.first(folder.clear)
        return session.run()


def resume(
    folder: Path,
    report: Report = lambda _: None,
    stop: Stop = lambda: False,
    overrides: Iterable[str] = (),
) -> Run:
    """Go on with the run in `folder` from its last state, bit for bit on the same machine.

    A warning says what makes it differ: another version of torch, other threads, another device.

    Args:
        folder: of the run.
        report, stop: as for `train`.
        overrides: "table.field=value" of settings that change no weight, such as
            "data.workers=4"; and "steps", where no rate depends on it.

    Raises:
        StorageError: no run is there, or its data has changed.
        CheckpointError: its last state cannot be read.
        ConfigError: an override would make it another run.
    """
    settings = read_settings(folder, overrides)
    found = RunFolder(folder, settings.checkpoints.keep)
    with join(settings.processes, settings.device) as world:
        state = found.last()
        done = 0 if state is None else state.step
        if settings.steps < done:
            raise ConfigError(f"steps = {settings.steps}, but the run in {folder} has made {done}.")
        return Session(settings, found, report, stop, state, world).run()


def read_settings(folder: Path, overrides: Iterable[str] = ()) -> TrainSettings:
    """The settings with which the run in `folder` goes on.

    Raises:
        StorageError: no run is there.
        ConfigError: an override would make it another run.
    """
    before = RunFolder(folder, 1).read_settings()
    plain = to_dict(before)
    apply_overrides(plain, overrides)
    settings = from_dict(TrainSettings, plain)
    free = (*FREE, "steps") if _rates_ignore_steps(before.optim) else FREE
    old, new = _flatten(to_dict(before)), _flatten(to_dict(settings))
    for key in sorted(old.keys() | new.keys()):
        same = old.get(key) == new.get(key)
        if not same and not any(key == one or key.startswith(f"{one}.") for one in free):
            raise ConfigError(
                f"a run cannot go on with another {key}: it was {old.get(key)!r}, not "
                f"{new.get(key)!r}; start a new run with start = {str(folder)!r}. What may "
                f"change: {', '.join(free)}{'' if free is not FREE else _WHEN_STEPS}."
            )
    return settings


def _rates_ignore_steps(optim: OptimSettings) -> bool:
    """Whether the rate of a step is the same in a longer run."""
    return optim.schedule in ("constant", "inverse-sqrt") and not optim.cooldown


def _flatten(plain: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Values by dotted names; lists stay whole."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        inner = isinstance(value, dict)
        found |= _flatten(value, f"{before}{name}.") if inner else {before + name: value}
    return found
