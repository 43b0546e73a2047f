"""`train` and `resume`: data in, steps, evaluations, states and a history out."""

from pathlib import Path

from ecliptic.errors import StorageError
from ecliptic.train.processes import join
from ecliptic.train.recorder import Report
from ecliptic.train.run_folder import RunFolder
from ecliptic.train.session import Run, Session, Stop
from ecliptic.train.settings import TrainSettings


def train(
    settings: TrainSettings,
    out: Path,
    report: Report = lambda _: None,
    stop: Stop = lambda: False,
) -> Run:
    """Train a CLIP, and write the run into the folder `out`.

    In the processes that torchrun starts, all make the steps together; rank 0 writes and reports.

    Args:
        settings: the recipe.
        out: an empty or new folder.
        report: gets each line of the history: a dictionary with a "step" and numbers.
        stop: asked after each step; True ends the run there, with a state to go on from.

    Raises:
        ConfigError: settings that contradict each other.
        NumericalError: gradients were not finite for too many steps in a row.
        ProcessError: another process of the run died or hangs.
        StorageError: data is missing, too much of it cannot be read, or a file cannot be written.
    """
    folder = RunFolder(out, settings.checkpoints.keep)
    with join(settings.processes, settings.device) as world:
        if world.rank == 0 and folder.steps():
            raise StorageError(
                f"{out} already holds a run with states; go on with it (ecliptic train --resume "
                f"{out}), or name another folder."
            )
        return Session(settings, folder, report, stop, world=world).run()


def resume(folder: Path, report: Report = lambda _: None, stop: Stop = lambda: False) -> Run:
    """Go on with the run in `folder` from its last state, bit for bit on the same machine.

    A warning says what makes it differ: another version of torch, other threads, another device.

    Raises:
        StorageError: no run is there, or its data has changed.
        CheckpointError: its last state cannot be read.
    """
    settings = RunFolder(folder, 1).read_settings()
    found = RunFolder(folder, settings.checkpoints.keep)
    with join(settings.processes, settings.device) as world:
        return Session(settings, found, report, stop, found.last(), world).run()
