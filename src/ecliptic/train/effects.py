"""Settings that would do nothing in a run, and what is odd about others.

Nothing is ignored in silence: what cannot have an effect is refused, what may be left from another
run is named.
"""

from collections.abc import Iterator

from ecliptic.errors import ConfigError
from ecliptic.train.settings import (
    DRAWING_TEMPLATES,
    RANDOM,
    CheckpointSettings,
    DataSettings,
    DrawingsConfig,
    EvaluateSettings,
    ProcessSettings,
    SigLIPConfig,
    TextPairsSettings,
    TowerSettings,
    TrainSettings,
)


def refuse_idle(settings: TrainSettings) -> None:
    """Raise ConfigError, with a line for each setting that cannot have an effect."""
    finders = (_find_in_towers, _find_others, _find_in_texts, _find_in_captions)
    if found := [line for find in finders for line in find(settings)]:
        raise ConfigError(*found)


def find_notes(
    settings: TrainSettings,
    processes: int = 1,
    examples: int | None = None,
    texts: int | None = None,
) -> list[str]:
    """What a run with `settings` does not use, or uses in a way that may surprise.

    Args:
        settings: of the run.
        processes: that make its steps.
        examples: to train on, of all sources together; None: not known yet.
        texts: pairs of texts, of all their sources together; None: there are none, or not known.
    """
    optim, steps = settings.optim, settings.steps
    notes = []
    if optim.warmup >= steps:
        notes.append(
            f"the warm-up of {optim.warmup} steps is not over after {steps}: the rate stays below "
            f"optim.rate = {optim.rate:g}."
        )
    if optim.restarts and max(optim.restarts) >= steps:
        notes.append(
            f"optim.restarts names step {max(optim.restarts)}, but the run ends at {steps}: the "
            "cosine before it is cut off."
        )
    data, evaluate = DataSettings(), EvaluateSettings()
    if not settings.data.workers and settings.data.ahead != data.ahead:
        notes.append("data.ahead is not used: data.workers = 0 prepares each batch in its step.")
    changed = (settings.evaluate.every, settings.evaluate.most) != (evaluate.every, evaluate.most)
    if changed and not _evaluates(settings):
        notes.append("evaluate.every and evaluate.most are not used: no pairs are held out.")
    if processes == 1 and settings.processes != ProcessSettings():
        notes.append("[processes] is not used: this is one process; start several with torchrun.")
    if examples is not None and settings.data.batch > examples:
        notes.append(
            f"data.batch = {settings.data.batch} is more than the {examples} examples to train on, "
            "so every batch has some of them twice; lower it, or add sources."
        )
    if texts is not None and settings.data.texts.batch > texts:
        notes.append(
            f"data.texts.batch = {settings.data.texts.batch} is more than the {texts} text pairs, "
            "so every batch has some of them twice; lower it, or add sources."
        )
    return [*notes, *_find_frozen_noise(settings)]


def _find_frozen_noise(settings: TrainSettings) -> Iterator[str]:
    """Random weights that are never trained."""
    if settings.start != RANDOM:
        return
    fix = "start from a checkpoint, or train all of it with"
    for name in ("image", "text"):
        layers = getattr(settings, name).freeze_layers
        if settings.trains not in ("all", name):
            yield (
                f'trains = "{settings.trains}" freezes the {name} tower, whose weights are random '
                f'with start = "{RANDOM}"; {fix} trains = "all".'
            )
        elif layers:
            yield (
                f"{name}.freeze_layers = {layers} freezes layers whose weights are random with "
                f'start = "{RANDOM}"; {fix} freeze_layers = 0.'
            )


def _find_in_towers(settings: TrainSettings) -> Iterator[str]:
    usual = TowerSettings()
    for name in ("image", "text"):
        own: TowerSettings = getattr(settings, name)
        if settings.trains in ("all", name):
            continue
        for field in ("freeze_layers", "rate", "rate_decay", "checkpointing"):
            if getattr(own, field) != getattr(usual, field):
                yield (
                    f'{name}.{field} has no effect with trains = "{settings.trains}", which '
                    "freezes the whole tower; leave it out."
                )


def _find_in_texts(settings: TrainSettings) -> Iterator[str]:
    """Text pairs that train nothing, and settings of pairs that do not exist."""
    texts, usual = settings.data.texts, TextPairsSettings()
    if texts.sources:
        if settings.trains == "image":
            yield (
                'data.texts.sources have no effect with trains = "image", which freezes the text '
                "tower; leave data.texts out."
            )
        return
    for field in ("batch", "weight"):
        if getattr(texts, field) != getattr(usual, field):
            yield (
                f"data.texts.{field} has no effect without data.texts.sources; name one, or leave "
                "it out."
            )


def _find_in_captions(settings: TrainSettings) -> Iterator[str]:
    """What would make captions of drawings that are never drawn."""
    for number, source in enumerate(settings.data.sources):
        if not isinstance(source, DrawingsConfig) or source.captions != "names":
            continue
        changed = {
            "wordnet": source.wordnet is not None,
            "templates": source.templates != DRAWING_TEMPLATES,
        }
        for field in filter(changed.__getitem__, changed):
            yield (
                f'data.sources[{number}].{field} has no effect with captions = "names", which are '
                'the names alone; leave it out, or set captions = "varied".'
            )
    for one in settings.evaluate.sets:
        if isinstance(one.source, DrawingsConfig) and one.source.wordnet is not None:
            yield (
                f"wordnet has no effect in the held-out set {one.name!r}, which is measured with "
                "the names alone; leave it out."
            )


def _find_others(settings: TrainSettings) -> Iterator[str]:
    loss, batch = settings.loss, settings.data.batch
    if settings.micro >= batch:
        yield (
            f"micro = {settings.micro} has no effect with data.batch = {batch}; set it to 0, or "
            "below the batch."
        )
    optim = settings.optim
    if optim.restart_rate and not optim.restarts:
        yield (
            f"optim.restart_rate = {optim.restart_rate:g} has no effect without optim.restarts; "
            "set it to 0, or name the steps of the restarts."
        )
    if optim.restarts and not optim.restart_rate:
        yield (
            "optim.restarts begins the cosine again at optim.restart_rate = 0, so nothing is "
            "learned from there on; set restart_rate."
        )
    if optim.restarts and min(optim.restarts) < optim.warmup:
        yield (
            f"optim.restarts names step {min(optim.restarts)}, which is in the warm-up of "
            f"{optim.warmup} steps; restart after it."
        )
    if optim.cooldown and optim.cooldown + optim.warmup > settings.steps:
        yield (
            f"optim.warmup = {optim.warmup} and optim.cooldown = {optim.cooldown} are more than "
            f"the {settings.steps} steps of the run; shorten one of them."
        )
    best = settings.checkpoints.best
    if best != CheckpointSettings().best and not _evaluates(settings):
        yield (
            f'checkpoints.best = "{best}" has no effect without an evaluation; set data.held_out '
            "or evaluate.sets."
        )
    scale = loss.scale if isinstance(loss, SigLIPConfig) else SigLIPConfig().scale
    if settings.start != RANDOM and scale != SigLIPConfig().scale:
        yield (
            f"loss.scale = {scale:g} has no effect with start = {settings.start!r}, whose own "
            "temperature is kept; leave it out."
        )


def _evaluates(settings: TrainSettings) -> bool:
    return bool(settings.data.held_out or settings.evaluate.sets)
