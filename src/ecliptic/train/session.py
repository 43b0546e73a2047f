"""One call of `train` or `resume`: opens everything, makes the steps, writes the states."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint
from ecliptic.engine import resolve_device
from ecliptic.errors import StorageError, warn
from ecliptic.inputs import Tokenizer
from ecliptic.model import TwoTowers, build
from ecliptic.train.data import Data, Prepared, open_data
from ecliptic.train.effects import refuse_idle
from ecliptic.train.environment import find_changes, list_facts
from ecliptic.train.evaluation import Evaluation
from ecliptic.train.health import HealthWatch, measure_spread
from ecliptic.train.history import Meter, Recorder, Report, Scalars, check_tensorboard, measure_peak
from ecliptic.train.run_folder import RunFolder, SavedState
from ecliptic.train.settings import TrainSettings
from ecliptic.train.state import pack, unpack
from ecliptic.train.stepping import (
    PRECISIONS,
    Precision,
    Stepper,
    StepResult,
    build_loss,
    time_precisions,
)
from ecliptic.train.teacher import open_teacher
from ecliptic.train.trainee import open_start

Stop = Callable[[], bool]
FEWEST_SEEN = 1000  # pairs before the share of those that could not be read counts


class ResumeWarning(UserWarning):
    """A resumed run is not bit for bit what it would have been without the interruption."""


class HealthWarning(UserWarning):
    """A training does not learn as it should."""


@dataclass(frozen=True)
class Run:
    """The result of a training run."""

    settings: TrainSettings
    model: TwoTowers  # in eval mode; the moving average, if there is one
    history: tuple[dict[str, Any], ...]  # the reported lines of this call, in order
    steps: int  # that were made, those before this call too
    stopped: bool  # by `stop`, before the last step


class Session:
    """A run from where it stands to its end.

    Args:
        settings: of the run.
        folder: of the run.
        report: gets each line of the history.
        stop: asked after each step; True ends the session there.
        state: from which the run goes on; None: it begins.
    """

    def __init__(
        self,
        settings: TrainSettings,
        folder: RunFolder,
        report: Report,
        stop: Stop,
        state: SavedState | None = None,
    ) -> None:
        refuse_idle(settings)
        if settings.tensorboard:
            check_tensorboard()
        self.folder, self.report, self.stop, self.state = folder, report, stop, state
        self.start = 0 if state is None else state.step
        torch.manual_seed(settings.seed)  # `unpack` sets the state of a run that goes on
        weights = None if state is None else folder.model_path(state.step)
        trainee, self.image_spec, self.tokenizer_spec = open_start(settings, weights)
        trainee.to(resolve_device(settings.device))
        tokenizer = Tokenizer(self.tokenizer_spec)
        self.data: Data = open_data(settings, self.image_spec, tokenizer)
        self.evaluation = Evaluation(
            settings, self.data.sources, self.data.mixture, self.image_spec, tokenizer
        )
        if state is not None:
            settings = replace(settings, precision=state.facts["precision"])
        teach = open_teacher(settings, self.image_spec, trainee.model.logit_scale.device)
        self.timings: dict[Precision, float] = {}  # seconds of a step, if it was to be chosen
        if settings.precision == "auto":
            self.timings = time_precisions(trainee, settings, self.data.maker[0].batch, teach)
            fastest: Precision = min(PRECISIONS, key=self.timings.__getitem__)
            settings = replace(settings, precision=fastest)
        self.settings = settings
        self.stepper = Stepper(trainee, self.settings, build_loss(settings.loss), teach=teach)
        self.best: tuple[int, float] | None = None
        self.saved = self.start, time.monotonic()
        self.losses: list[float] = []  # since the last logged step
        if state is not None:
            unpack(self.stepper, state.tensors, state.facts)
            self.losses = list(state.facts["losses"])
            self.best = tuple(state.facts["best"]) if state.facts.get("best") else None

    def run(self) -> Run:
        """Make the steps that are left."""
        self._check_environment()
        self.meter = Meter(measure_peak(self.stepper.device, self.stepper.dtype))
        self.health = HealthWatch(self.settings)
        with ExitStack() as closing_at_end:
            report = self.report
            if self.settings.tensorboard:
                scalars = Scalars(self.folder.path, self.start)
                closing_at_end.callback(scalars.close)
                report = _report_to(scalars, self.report)
            self.recorder = Recorder(self.folder.path, report, self.start)
            closing_at_end.enter_context(self.recorder)
            done = self._make_steps()
        model = self._averaged_model().eval()
        stopped = done < self.settings.steps
        return Run(self.settings, model, tuple(self.recorder.lines), done, stopped)

    def _make_steps(self) -> int:
        """Make steps to the last one, or until `stop`; returns how many the run has made."""
        steps, done, stopped = self.settings.steps, self.start, False
        with closing(self.data.batches.iterate(self.start, steps)) as batches:
            while done < steps and not stopped:
                prepared = self.meter.wait(batches)
                step = partial(self.stepper.step, prepared.batch, done)
                result = self.meter.work(step, len(prepared.batch))
                done += 1
                stopped = self.stop() and done < steps
                self._follow(done, prepared, result, stopped=stopped)
        if stopped:
            self.recorder.tell({"step": done, "stopped_before": steps})
        return done

    def _follow(self, done: int, prepared: Prepared, result: StepResult, *, stopped: bool) -> None:
        """What comes after a step: log, evaluation, state, each where it is due.

        When the run is stopped, nothing but the state is added: the history of a run that goes on
        is that of a run that never stopped.
        """
        settings = self.settings
        last = done == settings.steps
        self.losses.append(result.loss)
        self.recorder.reject(done, prepared.rejects)
        self._check_rejects(done)
        evaluates = bool(self.evaluation.sets) and (last or done % settings.evaluate.every == 0)
        if last or evaluates or done % settings.log_every == 0 or result.skipped:
            self._log(done, prepared, result)
        better = evaluates and self._evaluate(done)
        every, minutes = settings.checkpoints.every, settings.checkpoints.minutes
        late = minutes and time.monotonic() - self.saved[1] > 60 * minutes
        if last or stopped or better or late or (every and done % every == 0):
            self._save(done)

    def _log(self, done: int, prepared: Prepared, result: StepResult) -> None:
        spread = measure_spread(*self.stepper.vectors)
        captions = prepared.batch.captions
        warnings = self.health.look(done, result, spread, captions)
        line: dict[str, Any] = {
            "step": done,
            "loss": sum(self.losses) / len(self.losses),
            "rate": result.rate,
            "norm": result.norm,
            "scale": result.scale,
            "alignment": spread.alignment,
            "uniformity_image": spread.uniformity_image,
            "uniformity_text": spread.uniformity_text,
            "effective_rank": spread.rank,
            **self.meter.read(),
            "rejects": self.recorder.rejects,
        }
        self.losses.clear()
        self.recorder.record(line | ({"warnings": warnings} if warnings else {}))
        for text in warnings:
            warn(f"step {done}: {text}", HealthWarning, stacklevel=None)

    def _evaluate(self, done: int) -> bool:
        """Record an evaluation; returns whether it is the best so far."""
        found = self.evaluation.measure(self._averaged_model())
        self.recorder.record({"step": done, "evaluation": found})
        name = self.settings.checkpoints.best
        if not name:
            return False
        if name not in found:
            raise StorageError(
                f"checkpoints.best = {name!r} is no number of the evaluation; it has "
                f"{', '.join(found)}."
            )
        if self.best is not None and found[name] <= self.best[1]:
            return False
        self.best = done, found[name]
        return True

    def _save(self, done: int) -> None:
        """Write a state, the model and the curves.

        Raises:
            StorageError: they cannot be written; the message says from where the run can go on.
        """
        tensors, facts = pack(self.stepper)
        facts |= {"precision": self.settings.precision, "best": self.best, "losses": self.losses}
        best = None if self.best is None else self.best[0]
        try:
            self.folder.save(done, self._checkpoint(), tensors, facts, best=best)
            self.folder.draw(self.settings.name, self.recorder.past)
        except StorageError as error:
            left = self.folder.steps()
            rest = (
                f"the last state is that of step {left[-1]}; go on from it with ecliptic train "
                f"--resume {self.folder.path}."
                if left
                else "the run has no state to go on from."
            )
            raise StorageError(f"the run ends at step {done}: {error}", rest) from error
        self.saved = done, time.monotonic()

    def _weights(self) -> dict[str, Tensor]:
        """The weights to use: the moving average, if there is one."""
        average, prefix = self.stepper.average, "model."
        found = self.stepper.trainee.state_dict() if average is None else average.weights
        return {n.removeprefix(prefix): w for n, w in found.items() if n.startswith(prefix)}

    def _averaged_model(self) -> TwoTowers:
        """A model of the weights to use, which shares their memory."""
        if self.stepper.average is None:
            return self.stepper.trainee.model
        model = build(self.stepper.trainee.model.config)
        model.load_state_dict(self._weights(), assign=True)
        return model

    def _checkpoint(self) -> Checkpoint:
        """The model to write, in the precision that the settings store."""
        dtype = torch.float16 if self.settings.store == "fp16" else torch.float32
        weights = {
            name: tensor.to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
            for name, tensor in self._weights().items()
        }
        config = self.stepper.trainee.model.config
        specs = self.image_spec, self.tokenizer_spec
        return Checkpoint(config, weights, *specs, name=self.settings.name)

    def _check_rejects(self, done: int) -> None:
        """Raise StorageError when too large a share of the examples could not be read."""
        seen, most = done * self.settings.data.batch, self.settings.data.most_rejects
        if self.recorder.rejects > most * max(seen, FEWEST_SEEN):
            raise StorageError(
                f"{self.recorder.rejects} of {seen} examples could not be read, more than the "
                f"share {most} of data.most_rejects; rejects.jsonl says which and why."
            )

    def _check_environment(self) -> None:
        """Write the facts of a new run, or compare those of an old one."""
        now = list_facts(
            self.stepper.device,
            processes=1,
            data=self.data.batches.fingerprint,
            precision=self.settings.precision,
            seed=self.settings.seed,
        )
        if self.state is None:
            self.folder.begin(self.settings, now)
            return
        self.folder.write_settings(self.settings)  # harmless ones may have changed
        before = self.folder.read_facts()
        if before.get("data") != now["data"]:
            raise StorageError(
                "the training data is not that of the run any more (names, sizes or times of files "
                "differ), so the run cannot go on as it was; restore it, or start a new run with "
                "start = the last checkpoint."
            )
        if changes := find_changes(before, now):
            warn(
                f"this run is not bit for bit what it would have been: {'; '.join(changes)}.",
                ResumeWarning,
                stacklevel=None,
            )


def _report_to(scalars: Scalars, report: Report) -> Report:
    def both(line: dict[str, Any]) -> None:
        scalars.write(line)
        report(line)

    return both
