"""The folder of a run: what it holds, and how its states are kept.

settings.json           the settings, as `resume` reads them
run.json                versions, machine, data: what decides the numbers beside the settings
metrics.jsonl           the reported lines
curves.svg              the losses and the evaluation over the steps
rejects.jsonl           examples that could not be read
tensorboard/            the numbers for TensorBoard, with that setting
checkpoints/step-N.safetensors        the model, for `ecliptic.load`
checkpoints/step-N.state.safetensors  weights, optimiser, averages, random states: for `resume`
model.safetensors, ecliptic.json      the last model, so that `ecliptic.load` opens the folder
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ecliptic.checkpoints import Checkpoint, write
from ecliptic.errors import CheckpointError, StorageError, warn
from ecliptic.settings import from_dict, to_dict
from ecliptic.storage import (
    drafts_of,
    make_folder,
    parse_json,
    read_json,
    read_safetensors,
    replace_file,
    text_writer,
    write_safetensors,
)
from ecliptic.train.environment import ResumeWarning, find_changes
from ecliptic.train.history import CURVES, METRICS, REJECTS, draw_curves
from ecliptic.train.settings import TrainSettings

FORMAT = 2  # of the states; increased when older ones cannot be resumed
SETTINGS, FACTS = "settings.json", "run.json"
SPARE = 1 << 20  # bytes for the history and the curves
_MODEL = re.compile(r"step-(\d{8})\.safetensors")
_STATE = re.compile(r"step-(\d{8})\.state\.safetensors")


@dataclass(frozen=True)
class SavedState:
    """A state that was read."""

    step: int
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class RunFolder:
    """A run on disk.

    Args:
        path: of the folder.
        keep: states that stay, beside the best one.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path, self.keep = path, keep
        self.checkpoints = path / "checkpoints"

    def begin(self, settings: TrainSettings, facts: Mapping[str, Any]) -> None:
        """Write the settings and the facts of a new run."""
        make_folder(self.checkpoints)
        self.write_settings(settings)
        self.write_facts(facts)

    def go_on(self, settings: TrainSettings, facts: Mapping[str, Any]) -> None:
        """Name what differs from the last session of a run that goes on, and write the facts."""
        self.write_settings(settings)  # harmless ones may have changed
        if changes := find_changes(self.read_facts(), facts):
            warn(
                f"this run is not bit for bit what it would have been: {'; '.join(changes)}.",
                ResumeWarning,
                stacklevel=None,
            )
        self.write_facts(facts)

    def check_data(self, fingerprint: str) -> None:
        """Raise StorageError unless `fingerprint` is that of the data of the run."""
        before = str(self.read_facts().get("data"))
        if before.partition("-")[0] != fingerprint.partition("-")[0]:
            raise StorageError(
                "the training data is not that of the run any more (names or sizes of files "
                "differ), so the run cannot go on as it was; restore it, or start a new run with "
                "start = the last checkpoint."
            )

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write the facts of the session that begins."""
        replace_file(self.path / FACTS, text_writer(json.dumps(facts, indent=1) + "\n"))

    def write_settings(self, settings: TrainSettings) -> None:
        """Write the settings, for `resume`, and remove what a killed process left half written."""
        text = json.dumps(to_dict(settings), indent=1) + "\n"
        replace_file(self.path / SETTINGS, text_writer(text))
        self._sweep()

    def clear(self) -> None:
        """Remove the files of a run that was in this folder, and no others."""
        self._sweep()
        for step in self.steps():
            self.state_path(step).unlink()
            self.model_path(step).unlink(missing_ok=True)
        for name in (SETTINGS, FACTS, METRICS, REJECTS, CURVES):
            (self.path / name).unlink(missing_ok=True)

    def draw(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        """Draw the curves of a run called `name` from all its lines."""
        replace_file(self.path / CURVES, text_writer(draw_curves(name, lines) + "\n"))

    def read_settings(self) -> TrainSettings:
        """The settings of the run.

        Raises:
            StorageError: the folder holds no run.
        """
        if not (self.path / SETTINGS).is_file():
            raise StorageError(
                f"{self.path} holds no training run ({SETTINGS} is missing); give the folder of a "
                "run, such as runs/clip."
            )
        return from_dict(TrainSettings, read_json(self.path / SETTINGS), where=SETTINGS)

    def read_facts(self) -> Mapping[str, Any]:
        """What `write_facts` wrote beside the settings."""
        found = read_json(self.path / FACTS)
        return found if isinstance(found, dict) else {}

    def save(
        self,
        step: int,
        checkpoint: Checkpoint,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        *,
        best: int | None = None,
    ) -> None:
        """Write the model and the state after `step` steps.

        Then drop all but the last `keep` states and that of step `best`.

        The state is written last and at once, so a run that is killed meanwhile, or a full disk,
        leaves the one before.

        Raises:
            StorageError: it cannot be written, or the disk has too little space for it.
        """
        self._check_space(tensors.values(), checkpoint.weights.values())
        stated = json.dumps({"format": FORMAT, "step": step, **facts})
        self.write_model(step, checkpoint)
        replace_file(
            self.state_path(step),
            lambda draft: write_safetensors(draft, tensors, {"format": "pt", "training": stated}),
        )
        for old in self.steps()[: -self.keep]:
            if old != best:
                self.state_path(old).unlink()
                self.model_path(old).unlink(missing_ok=True)

    def write_model(self, step: int, checkpoint: Checkpoint) -> None:
        """Write the model after `step` steps, also as that of the run."""
        write(checkpoint, self.model_path(step), overwrite=True)
        write(checkpoint, self.path, overwrite=True)

    def _check_space(self, state: Iterable[Tensor], model: Iterable[Tensor]) -> None:
        """Raise StorageError unless there is room for a state and two copies of the model."""
        wanted = sum(t.nbytes for t in state) + 2 * sum(t.nbytes for t in model)
        free = shutil.disk_usage(self.checkpoints).free
        if free < wanted + SPARE:
            raise StorageError(
                f"the disk of {self.checkpoints} has {free / 1e6:,.0f} MB free, but a state of "
                f"this run takes {wanted / 1e6:,.0f} MB; free some space."
            )

    def _sweep(self) -> None:
        """Remove drafts, and models without their state, that a killed process left."""
        if not self.checkpoints.is_dir():
            return
        for folder in (self.path, self.checkpoints):
            for draft in drafts_of(folder, ""):
                draft.unlink()
        whole = set(self.steps())
        for path in self.checkpoints.iterdir():
            if (found := _MODEL.fullmatch(path.name)) and int(found[1]) not in whole:
                path.unlink()

    def last(self) -> SavedState | None:
        """The last state; None before the first one.

        Raises:
            CheckpointError: it cannot be read, or a later version wrote it.
        """
        steps = self.steps()
        return self.read(steps[-1]) if steps else None

    def read(self, step: int) -> SavedState:
        """The state after `step` steps."""
        found = read_safetensors(self.state_path(step))
        text = found.metadata.get("training", "")
        facts = parse_json(text.encode(), f"{self.state_path(step)}: its training metadata")
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.state_path(step)} has another format than this version of ecliptic resumes "
                f"({FORMAT}); resume it with the version that wrote it."
            )
        return SavedState(step, found.tensors, facts)

    def steps(self) -> list[int]:
        """Steps with a state, in order."""
        names = (p.name for p in self.checkpoints.iterdir()) if self.checkpoints.is_dir() else ()
        return sorted(int(m[1]) for name in names if (m := _STATE.fullmatch(name)))

    def model_path(self, step: int) -> Path:
        """The model after `step` steps."""
        return self.checkpoints / f"step-{step:08}.safetensors"

    def state_path(self, step: int) -> Path:
        """The state after `step` steps."""
        return self.checkpoints / f"step-{step:08}.state.safetensors"
