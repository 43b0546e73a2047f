"""What a run will do, told before it: parameters, rates, data, and a measured step."""

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ecliptic.errors import ConfigError
from ecliptic.model import ModifiedResNet
from ecliptic.train.data import DrawingExamples
from ecliptic.train.effects import find_notes
from ecliptic.train.layers import AnyTower, layer_count, layered_parameters
from ecliptic.train.processes import count_processes
from ecliptic.train.run_folder import RunFolder
from ecliptic.train.session import Session
from ecliptic.train.settings import SourceConfig, TrainSettings, WordNetConfig
from ecliptic.train.state import pack
from ecliptic.train.stepping import TrainPrecision

T = TypeVar("T")


@dataclass(frozen=True)
class LayerRow:
    """Parameters of one layer of a tower, or of the loss."""

    tower: str
    layer: str
    parameters: int
    trained: int
    rate: float  # at the end of the warm-up; 0: frozen


@dataclass(frozen=True)
class GroupRow:
    """Parameters of the optimiser with one rate and one decay."""

    rate: float  # at the end of the warm-up
    decay: float
    tensors: int
    parameters: int


@dataclass(frozen=True)
class SourceRow:
    """A source of pairs."""

    source: str
    examples: int  # to train on
    held_out: int
    pairs: int  # that are drawn in the run
    epochs: float
    in_wordnet: int | None  # names that have a synset; None: captions have no words of WordNet


@dataclass(frozen=True)
class TextRow:
    """A source of text pairs."""

    source: str
    texts: int  # words that pairs are drawn of
    pairs: int  # that are drawn in the run
    epochs: float


@dataclass(frozen=True)
class Explanation:
    """What `ecliptic train --explain` prints."""

    name: str
    start: str
    device: str
    precision: str
    precision_seconds: dict[TrainPrecision, float]  # of a step, if the precision was to be chosen
    steps: int
    batch: int
    pairs: int  # seen in the run
    layers: tuple[LayerRow, ...]
    groups: tuple[GroupRow, ...]
    sources: tuple[SourceRow, ...]
    texts: tuple[TextRow, ...]
    evaluations: dict[str, int]  # images of each held-out set
    data_seconds: float  # for one batch, in one process
    step_seconds: float  # measured
    run_seconds: float  # of all steps, without evaluations and checkpoints
    memory_bytes: int | None  # peak after one step; None: the system does not tell
    checkpoint_bytes: int  # of one state with its model
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def explain(settings: TrainSettings) -> Explanation:
    """Open all that a run needs, measure a step, and tell what the run would do; writes nothing.

    Raises:
        ConfigError: settings that contradict each other, or have no effect; or torchrun started
            several processes, each of which would measure the step of one.
        StorageError: data is missing.
    """
    if (processes := count_processes()) > 1:
        raise ConfigError(
            f"an explanation measures the step of one process, but torchrun started {processes}; "
            "run --explain with one process."
        )
    session = Session(settings, RunFolder(Path(), 1), lambda _: None, lambda: False)
    stepper, settings = session.stepper, session.settings
    data_seconds, prepared = _time(lambda: session.data.maker[0])
    first, _ = _time(lambda: stepper.step(prepared.batch, 0))
    second, _ = _time(lambda: stepper.step(prepared.batch, 1))
    step_seconds = min(first, second)  # the first one allocates
    workers = settings.data.workers
    each = max(step_seconds, data_seconds / workers) if workers else step_seconds + data_seconds
    state, _ = pack(stepper)
    weights = sum(w.nbytes for w in stepper.trainee.model.state_dict().values())
    return Explanation(
        name=settings.name,
        start=settings.start,
        device=str(stepper.device),
        precision=settings.precision,
        precision_seconds=session.timings,
        steps=settings.steps,
        batch=settings.data.batch,
        pairs=settings.steps * settings.data.batch,
        layers=tuple(_list_layers(session)),
        groups=tuple(_list_groups(session)),
        sources=tuple(_list_sources(session)),
        texts=tuple(_list_texts(session)),
        evaluations={one.name: len(one.indices) for one in session.evaluation.sets},
        data_seconds=data_seconds,
        step_seconds=step_seconds,
        run_seconds=each * settings.steps,
        memory_bytes=measure_memory(stepper.device),
        checkpoint_bytes=sum(t.nbytes for t in state.values()) + weights,
        notes=tuple(_find_notes(session)),
    )


def _find_notes(session: Session) -> list[str]:
    """What is odd about the settings, now that the data is known."""
    maker = session.data.maker.pairs
    texts = sum(map(len, maker.sources)) if maker else None
    return find_notes(session.settings, examples=sum(session.data.mixture.trained), texts=texts)


def measure_memory(device: torch.device) -> int | None:
    """Bytes that the device, or this process on a CPU, has held at most; None: not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _time(work: Callable[[], T]) -> tuple[float, T]:
    begun = time.perf_counter()
    found = work()
    return time.perf_counter() - begun, found


def _list_layers(session: Session) -> list[LayerRow]:
    trainee = session.stepper.trainee
    groups = session.stepper.optimiser.param_groups
    peak = session.settings.optim.rate
    rates = {p: group["factor"] * peak for group in groups for p in group["params"]}
    rows = []
    for name, tower in trainee.towers().items():
        found: defaultdict[int, list[torch.nn.Parameter]] = defaultdict(list)
        for layer, _, parameter in layered_parameters(tower):
            found[layer].append(parameter)
        for layer, parameters in sorted(found.items()):
            rows.append(_row(name, _name_layer(tower, layer), parameters, rates))
    rest = [trainee.model.logit_scale]
    rest += [] if trainee.logit_bias is None else [trainee.logit_bias]
    return [*rows, _row("loss", "temperature" + ", bias" * (len(rest) - 1), rest, rates)]


def _row(
    tower: str,
    layer: str,
    parameters: list[torch.nn.Parameter],
    rates: dict[torch.nn.Parameter, float],
) -> LayerRow:
    trained = [p for p in parameters if p.requires_grad]
    rate = rates[trained[0]] if trained else 0.0
    whole, part = (sum(p.numel() for p in some) for some in (parameters, trained))
    return LayerRow(tower, layer, whole, part, rate)


def _name_layer(tower: AnyTower, layer: int) -> str:
    resnet = isinstance(tower, ModifiedResNet)
    if layer == 0:
        return "0: stem" if resnet else "0: embeddings"
    if layer == layer_count(tower) - 1:
        return f"{layer}: attention pool" if resnet else f"{layer}: norm, projection"
    return f"{layer}: stage" if resnet else f"{layer}: block"


def _list_groups(session: Session) -> list[GroupRow]:
    peak = session.settings.optim.rate
    return [
        GroupRow(
            rate=group["factor"] * peak,
            decay=group["weight_decay"],
            tensors=len(group["params"]),
            parameters=sum(p.numel() for p in group["params"]),
        )
        for group in session.stepper.optimiser.param_groups
    ]


def _list_sources(session: Session) -> list[SourceRow]:
    settings, mixture = session.settings, session.data.mixture
    rows = []
    for place, config in enumerate(settings.data.sources):
        pairs = _count_pairs(settings.steps * settings.data.batch, settings.data.sources, place)
        trained = mixture.trained[place]
        source = session.data.sources[place]
        known = len(source.senses) if isinstance(source, DrawingExamples) else 0
        in_wordnet = known if getattr(config, "wordnet", None) else None
        held, name = mixture.held[place], _name_source(config)
        rows.append(SourceRow(name, trained, held, pairs, pairs / trained, in_wordnet))
    return rows


def _list_texts(session: Session) -> list[TextRow]:
    texts, maker = session.settings.data.texts, session.data.maker.pairs
    rows = []
    for place, source in enumerate(maker.sources if maker else ()):
        pairs = _count_pairs(session.settings.steps * texts.batch, texts.sources, place)
        name = _name_source(texts.sources[place])
        rows.append(TextRow(name, len(source), pairs, pairs / len(source)))
    return rows


def _count_pairs(every: int, configs: Sequence[SourceConfig | WordNetConfig], place: int) -> int:
    """The share of one of several sources in all pairs."""
    return round(every * configs[place].weight / sum(config.weight for config in configs))


def _name_source(config: SourceConfig | WordNetConfig) -> str:
    """ "folder birds"; "wordnet synsets.tsv: 10 kinds"."""
    kinds = getattr(config, "kinds", ())
    name = f"{type(config).__name__.removesuffix('Config').lower()} {config.path}"
    some = f"{len(kinds)} kinds" if len(kinds) > 1 else "".join(kinds)
    return f"{name}: {some}" if some else name
