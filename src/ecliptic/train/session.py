"""One call of `train` or `resume`: opens everything, makes the steps, writes the states."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint
from ecliptic.engine import resolve_device
from ecliptic.errors import ConfigError, EclipticError, StorageError, warn
from ecliptic.inputs import Tokenizer
from ecliptic.model import TwoTowers, build
from ecliptic.train.concepts import make_proxies
from ecliptic.train.data import BadExample, Data, Prepared, open_data
from ecliptic.train.effects import refuse_idle
from ecliptic.train.environment import list_facts
from ecliptic.train.evaluation import Evaluation
from ecliptic.train.health import HealthWatch, measure_spread
from ecliptic.train.history import (
    Meter,
    Recorder,
    Report,
    Scalars,
    Silent,
    check_tensorboard,
    measure_peak,
)
from ecliptic.train.processes import World, gather_whole, is_shard
from ecliptic.train.run_folder import RunFolder, SavedState
from ecliptic.train.settings import TrainSettings
from ecliptic.train.state import pack, unpack
from ecliptic.train.stepping import (
    PRECISIONS,
    Stepper,
    StepResult,
    Teach,
    TrainPrecision,
    build_loss,
    time_precisions,
)
from ecliptic.train.teacher import open_teacher
from ecliptic.train.trainee import Trainee, open_start

Stop = Callable[[], bool]
FEWEST_SEEN = 1000  # pairs before the share of those that could not be read counts


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


@dataclass(frozen=True)
class Agreed:
    """What all processes know of a step."""

    result: StepResult  # with the loss of the whole batch
    rejects: tuple[BadExample, ...]  # of all processes, in rank 0
    stopped: bool  # one of them was asked to stop
    late: bool  # a state is due by the time since the last one


class Session:
    """A run from where it stands to its end.

    Args:
        settings: of the run.
        folder: of the run.
        report: gets each line of the history.
        stop: asked after each step; True ends the session there.
        state: from which the run goes on; None: it begins.
        world: the processes of the run; None: this one.
    """

    def __init__(
        self,
        settings: TrainSettings,
        folder: RunFolder,
        report: Report,
        stop: Stop,
        state: SavedState | None = None,
        world: World | None = None,
    ) -> None:
        refuse_idle(settings)
        self.folder, self.report, self.stop, self.state = folder, report, stop, state
        self.world = world = world or World(resolve_device(settings.device))
        _check_setting(settings, world)
        self.start = 0 if state is None else state.step
        torch.manual_seed(settings.seed)  # `unpack` sets the state of a run that goes on
        weights = None if state is None else folder.model_path(state.step)
        trainee, self.image_spec, self.tokenizer_spec = open_start(settings, weights)
        tokenizer = Tokenizer(self.tokenizer_spec)
        self.data: Data = open_data(settings, self.image_spec, tokenizer, world.rank, world.size)
        trainee.proxies = make_proxies(
            settings, trainee.model.config.embed, self.data.sources, world.size
        )
        trainee.to(world.device)
        self.evaluation = Evaluation(
            settings, self.data.sources, self.data.mixture, self.image_spec, tokenizer
        )
        if state is not None:
            settings = replace(settings, precision=state.facts["precision"])
        teach = open_teacher(settings, self.image_spec, world.device)
        self.timings: dict[TrainPrecision, float] = {}  # seconds of a step, if it was to be chosen
        self.settings = settings = self._choose_precision(trainee, settings, teach)
        encode, loss = world.distribute(trainee), build_loss(settings.loss)
        self.stepper = Stepper(trainee, settings, loss, encode=encode, ring=world.ring, teach=teach)
        self.best: tuple[int, float] | None = None
        self.saved = self.start, time.monotonic()
        self.losses: dict[str, list[float]] = {}  # and their parts, since the last logged step
        if state is not None:
            self._take_up(state)

    def _take_up(self, state: SavedState) -> None:
        """Go on with the tensors of a state, and the numbers beside them."""
        self.folder.check_data(self.data.batches.fingerprint)
        unpack(self.stepper, state.tensors, state.facts)
        self.losses = {name: list(found) for name, found in state.facts["losses"].items()}
        self.best = tuple(state.facts["best"]) if state.facts.get("best") else None

    def _choose_precision(
        self, trainee: Trainee, settings: TrainSettings, teach: Teach | None
    ) -> TrainSettings:
        """Settings with the precision that was faster in rank 0, if they leave it open."""
        if settings.precision != "auto":
            return settings
        batch = self.data.maker[0].batch
        self.timings = self.world.first(lambda: time_precisions(trainee, settings, batch, teach))
        fastest: TrainPrecision = min(PRECISIONS, key=self.timings.__getitem__)
        return replace(settings, precision=fastest)

    def run(self) -> Run:
        """Make the steps that are left."""
        begin = self.folder.begin if self.state is None else self.folder.go_on
        self.world.first(lambda: begin(self.settings, self._list_facts()))
        self.meter = Meter(measure_peak(self.stepper.device, self.stepper.dtype))
        self.health = HealthWatch(self.settings)
        with ExitStack() as closing_at_end:
            self.recorder = self._open_recorder(closing_at_end)
            closing_at_end.enter_context(self.recorder)
            done = self._make_steps()
        model = self._averaged_model().eval()
        stopped = done < self.settings.steps
        return Run(self.settings, model, tuple(self.recorder.lines), done, stopped)

    def _list_facts(self) -> dict[str, Any]:
        return list_facts(
            self.stepper.device,
            processes=self.world.size,
            kind=self.settings.processes.kind,
            data=self.data.batches.fingerprint,
            precision=self.settings.precision,
            seed=self.settings.seed,
        )

    def _make_steps(self) -> int:
        """Make steps to the last one, or until `stop`; returns how many the run has made."""
        steps, done, stopped = self.settings.steps, self.start, False
        with closing(self.data.batches.iterate(self.start, steps)) as batches:
            while done < steps and not stopped:
                self.world.proceed(f"waiting for the data of step {done + 1}")
                prepared = self.meter.wait(batches)
                self.world.proceed(f"at step {done + 1}")
                step = partial(self.stepper.step, prepared.batch, done)
                result = self.meter.work(step, self.settings.data.batch)
                done += 1
                agreed = self._agree(prepared, result)
                stopped = agreed.stopped and done < steps
                self._follow(done, prepared, agreed, stopped=stopped)
        if stopped:
            self.recorder.tell({"step": done, "stopped_before": steps})
        return done

    def _open_recorder(self, closing_at_end: ExitStack) -> Recorder:
        """What writes the history: in rank 0 alone."""
        if self.world.rank:
            return Silent()
        report = self.report
        if self.settings.tensorboard:
            scalars = Scalars(self.folder.path, self.start)
            closing_at_end.callback(scalars.close)
            report = _report_to(scalars, self.report)
        return Recorder(self.folder.path, report, self.start)

    def _agree(self, prepared: Prepared, result: StepResult) -> Agreed:
        """What all processes know of a step; the clock that counts is that of rank 0."""
        world, minutes = self.world, self.settings.checkpoints.minutes
        late = minutes > 0 and time.monotonic() - self.saved[1] > 60 * minutes and world.rank == 0
        values = self.stop(), late, len(prepared.rejects), result.loss, *result.parts.values()
        stopped, saves, rejects, *losses = world.add(values)
        bad = world.gather(prepared.rejects) if rejects else ()
        loss, *parts = (value / world.size for value in losses)
        result = replace(result, loss=loss, parts=dict(zip(result.parts, parts, strict=True)))
        return Agreed(result, tuple(bad), stopped=stopped > 0, late=saves > 0)

    def _follow(self, done: int, prepared: Prepared, agreed: Agreed, *, stopped: bool) -> None:
        """What comes after a step: log, evaluation, state, each where it is due.

        When the run is stopped, nothing but the state is added: the history of a run that goes on
        is that of a run that never stopped.
        """
        settings, result = self.settings, agreed.result
        last = done == settings.steps
        for name, value in {"loss": result.loss, **result.parts}.items():
            self.losses.setdefault(name, []).append(value)
        self.recorder.reject(done, agreed.rejects)
        self._check_rejects(done)
        evaluates = bool(self.evaluation.sets) and (last or done % settings.evaluate.every == 0)
        if last or evaluates or done % settings.log_every == 0 or result.skipped:
            if self.world.rank == 0:
                self._log(done, prepared, result)
            self.losses.clear()
        better = evaluates and self._evaluate(done)
        every = settings.checkpoints.every
        if last or stopped or better or agreed.late or (every and done % every == 0):
            self._save(done)
        if last and self.evaluation.calibrating:  # when nothing can be lost any more
            self._calibrate(done)

    def _log(self, done: int, prepared: Prepared, result: StepResult) -> None:
        spread = measure_spread(*self.stepper.vectors)
        captions = prepared.batch.captions
        warnings = self.health.look(done, result, spread, captions)
        line: dict[str, Any] = {
            "step": done,
            **{name: sum(found) / len(found) for name, found in self.losses.items()},
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
        self.recorder.record(line | ({"warnings": warnings} if warnings else {}))
        for text in warnings:
            warn(f"step {done}: {text}", HealthWarning, stacklevel=None)

    def _evaluate(self, done: int) -> bool:
        """Record an evaluation; returns whether it is the best so far."""
        model = self._averaged_model(wanted=self.world.rank == 0)
        return self.world.first(lambda: self._measure(done, model))

    def _measure(self, done: int, model: TwoTowers) -> bool:
        found = self.evaluation.measure(model, partial(self.world.proceed, "evaluating"))
        self.recorder.record({"step": done, "evaluation": found})
        name = self.settings.checkpoints.best
        if not name:
            return False
        if self.best is not None and found[name] <= self.best[1]:
            return False
        self.best = done, found[name]
        return True

    def _calibrate(self, done: int) -> None:
        """Fit the calibration of the finished model, and write it into the card of the model."""
        writes = self.world.rank == 0
        model, weights = self._averaged_model(wanted=writes), self._weights(wanted=writes)
        self.world.first(lambda: self._fit(done, model.eval(), weights))

    def _fit(self, done: int, model: TwoTowers, weights: Mapping[str, Tensor]) -> None:
        try:
            fit = self.evaluation.calibrate(model, partial(self.world.proceed, "calibrating"))
        except (EclipticError, RuntimeError) as error:  # the model is good without one
            warn(f"step {done}: no calibration: {error}", HealthWarning, stacklevel=None)
            return
        self.recorder.record({"step": done, "calibration": asdict(fit)})
        checkpoint = replace(self._checkpoint(weights), calibration=fit.calibration)
        self.folder.write_model(done, checkpoint)

    def _save(self, done: int) -> None:
        """Write a state, the model and the curves.

        All processes take part, as each may hold a share of the tensors; rank 0 writes.

        Raises:
            StorageError: they cannot be written; the message says from where the run can go on.
        """
        writes = self.world.rank == 0
        tensors, facts = pack(self.stepper, wanted=writes)
        weights = self._weights(wanted=writes)
        self.world.first(lambda: self._write(done, weights, tensors, facts))
        self.saved = done, time.monotonic()

    def _write(
        self,
        done: int,
        weights: Mapping[str, Tensor],
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
    ) -> None:
        own = {
            "precision": self.settings.precision,
            "best": self.best,
            "losses": self.losses,
        }
        best = None if self.best is None else self.best[0]
        try:
            checkpoint = self._checkpoint(weights)
            self.folder.save(done, checkpoint, tensors, {**facts, **own}, best=best)
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

    def _weights(self, *, wanted: bool = True) -> dict[str, Tensor]:
        """The weights to use: the moving average, if there is one; nothing if not `wanted`."""
        average, prefix = self.stepper.average, "model."
        found = self.stepper.trainee.state_dict() if average is None else average.weights
        named = {n.removeprefix(prefix): w for n, w in found.items() if n.startswith(prefix)}
        return gather_whole(named, wanted=wanted)

    def _averaged_model(self, *, wanted: bool = True) -> TwoTowers:
        """A model of the weights to use, which shares their memory; without any if not `wanted`."""
        whole = not any(is_shard(weight) for weight in self.stepper.trainee.parameters())
        if self.stepper.average is None and whole:
            return self.stepper.trainee.model
        model = build(self.stepper.trainee.model.config)
        weights = self._weights(wanted=wanted)
        model.load_state_dict(weights, assign=True, strict=wanted)
        return model

    def _checkpoint(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """The model to write, in the precision that the settings store."""
        dtype = torch.float16 if self.settings.store == "fp16" else torch.float32
        stored = {
            name: tensor.to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
            for name, tensor in weights.items()
        }
        config = self.stepper.trainee.model.config
        specs = self.image_spec, self.tokenizer_spec
        return Checkpoint(config, stored, *specs, name=self.settings.name)

    def _check_rejects(self, done: int) -> None:
        """Raise StorageError when too large a share of the examples could not be read."""
        seen, most = done * self.settings.data.batch, self.settings.data.most_rejects
        if self.recorder.rejects > most * max(seen, FEWEST_SEEN):
            raise StorageError(
                f"{self.recorder.rejects} of {seen} examples could not be read, more than the "
                f"share {most} of data.most_rejects; rejects.jsonl says which and why."
            )


def _check_setting(settings: TrainSettings, world: World) -> None:
    """Raise ConfigError if a package is missing, or a process has no pair or text pair."""
    if settings.tensorboard:
        check_tensorboard()
    batches = {"data.batch": settings.data.batch}
    if settings.data.texts.sources:
        batches["data.texts.batch"] = settings.data.texts.batch
    for name, batch in batches.items():
        if batch < world.size:
            raise ConfigError(
                f"{name} = {batch} leaves some of the {world.size} processes without a pair; use "
                "a larger batch or fewer processes."
            )


def _report_to(scalars: Scalars, report: Report) -> Report:
    def both(line: dict[str, Any]) -> None:
        scalars.write(line)
        report(line)

    return both
