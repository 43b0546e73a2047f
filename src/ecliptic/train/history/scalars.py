"""The numbers of a run for TensorBoard, where that package is installed."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ecliptic.errors import MissingExtraError

FOLDER = "tensorboard"


def check_tensorboard() -> None:
    """Raise MissingExtraError unless the package `tensorboard` is installed."""
    if find_spec("tensorboard") is None:
        raise MissingExtraError(
            "tensorboard = true needs the package tensorboard; install it (pip install "
            "tensorboard), or leave the setting out: metrics.jsonl and curves.svg hold the same."
        )


class Scalars:
    """Writes the numbers of lines into a folder that TensorBoard shows.

    Args:
        run: folder of the run.
        step: TensorBoard hides the numbers of later steps: the run goes on from this one.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, run: Path, step: int) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run / FOLDER), purge_step=step + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        """Write the numbers of a line of the history, those of an evaluation too."""
        for name, value in (line | line.get("evaluation", {})).items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(name.replace(".", "/"), value, line["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._writer.close()
