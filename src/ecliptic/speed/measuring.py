"""`measure_speed`: a model is loaded, warmed up, and measured in turns with its peer.

Every row is computed by ecliptic alone first (`warming.py`), which also shows the peak of memory.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.errors import EclipticError
from ecliptic.inputs import decode_many
from ecliptic.speed.clock import Wait, find_wait, measure_in_turns
from ecliptic.speed.inputs import list_work
from ecliptic.speed.machine import describe_machine, read_load
from ecliptic.speed.memory import MemoryWatch
from ecliptic.speed.peer import Peer, has_open_clip, open_peer
from ecliptic.speed.report import MeasuredModel, PeerSpeed, RunSpread, SpeedReport, SpeedRow
from ecliptic.speed.settings import SpeedSettings
from ecliptic.speed.warming import Warm, say_too_long, warm_up

LOADS = 3
_LOADING = 10.0  # seconds, after which a model is not loaded again
_UNEVEN, _ENOUGH = 2, 5  # times, in this many runs or more: other work, as a rule
_SAME_MODEL = 0.99  # cosine; below it, the vectors are not those of the same model

Tell = Callable[[str], object]


def measure_speed(
    load: Callable[[], Clip],
    device: torch.device,
    settings: SpeedSettings | None = None,
    tell: Tell = lambda _: None,
) -> SpeedReport:
    """Measure how fast the model that `load` gives runs on this machine, and in how much memory.

    Args:
        load: loads the model, as `ecliptic.load` does; called up to `LOADS` times.
        device: the one on which `load` places it.
        settings: what is measured, and for how long.
        tell: called with what is done next, in words for people.

    Raises:
        EclipticError: all errors of `load`. What cannot be measured or compared is a note of the
            report instead.
    """
    settings = settings or SpeedSettings()
    begun, busy = time.perf_counter(), read_load()
    wait, notes = find_wait(device), list[str]()
    with MemoryWatch(device) as watch:
        tell("loading the model")
        clip, loading = _load(load, wait, watch)
        compiled = clip.runtime.kernels == "compiled"
        first = "compiling for up to some minutes" if compiled else "choosing kernels"
        tell(f"{first}, and computing everything once")
        clip.runtime.choose()
        start = time.perf_counter()
        work, missing = list_work(clip, settings.batches)
        warm = warm_up(work, _calls(clip), wait, settings, notes, compiled=compiled)
        left = settings.seconds - (0 if compiled else time.perf_counter() - start)
    peer = _open_peer(clip, settings, notes, tell)
    tell(f"measuring {len(warm)} rows, for {max(left, 1):.0f} s at most or a little more")
    rows = _measure(warm, _calls(clip), peer, wait, settings, left, notes)
    return SpeedReport(
        model=_describe(clip),
        machine=describe_machine(clip.device, busy),
        choices=clip.runtime.describe(),
        load=RunSpread.of(loading),
        memory=watch.uses(),
        rows=rows,
        peer=peer.name if peer else "",
        notes=(*missing, *notes, *_say_uneven(rows)),
        seconds=time.perf_counter() - begun,
    )


def _say_uneven(rows: Sequence[SpeedRow]) -> Iterator[str]:
    """The rows whose runs differ so much that other programs must have had the cores."""
    enough = [row for row in rows if row.rate.runs >= _ENOUGH]
    uneven = [row for row in enough if row.rate.high > _UNEVEN * row.rate.low]
    if uneven:
        names = ", ".join(f"{row.what}, batch {row.batch}" for row in uneven)
        yield (
            f"The quickest run was more than {_UNEVEN} times as fast as the slowest one: {names}. "
            "Close other programs and run it again to be sure of these."
        )


def _load(load: Callable[[], Clip], wait: Wait, watch: MemoryWatch) -> tuple[Clip, list[float]]:
    """The model, and the seconds of each time it was loaded; one copy is in memory at a time."""
    seconds: list[float] = []
    while True:
        start = time.perf_counter()
        clip = load()
        wait()
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 1:
            watch.note_loaded()
        if len(seconds) == LOADS or sum(seconds) > _LOADING:
            return clip, seconds
        del clip


def _calls(clip: Clip) -> dict[str, Callable[[Any], Any]]:
    """What ecliptic does for each kind of work."""

    def prepare(files: list[bytes]) -> None:
        for _ in decode_many(files, clip.preprocessor):
            pass

    return {
        "pixels": clip.runtime.image,
        "jpegs": lambda files: clip.encode_image(files, batch_size=len(files)),
        "prepare": prepare,
        "captions": lambda texts: clip.encode_text(
            texts, overflow="truncate", batch_size=len(texts)
        ),
        "tokens": clip.runtime.text,
        "tokenize": partial(clip.tokenize, overflow="truncate"),
    }


def _open_peer(clip: Clip, settings: SpeedSettings, notes: list[str], tell: Tell) -> Peer | None:
    if settings.peer == "none":
        return None
    if has_open_clip():
        tell("opening open_clip with the same weights")
    try:
        peer = open_peer(clip)
    except (EclipticError, OSError) as error:
        notes.append(f"open_clip was not measured: {error}")
        return None
    notes += peer.notes
    return peer


def _measure(
    warm: Sequence[Warm],
    calls: dict[str, Callable[[Any], Any]],
    peer: Peer | None,
    wait: Wait,
    settings: SpeedSettings,
    left: float,
    notes: list[str],
) -> tuple[SpeedRow, ...]:
    """Measure every row; the quick ones first, so that the slow ones get the time they leave."""
    rows: dict[int, SpeedRow] = {}
    said: dict[int, list[str]] = {}
    for done, place in enumerate(sorted(range(len(warm)), key=lambda n: warm[n].seconds)):
        start, share, one = time.perf_counter(), left / (len(warm) - done), warm[place]
        needed = one.seconds * (1 if peer is None else 3)  # one run of each, a first of the peer
        if needed > left and not one.smallest:
            said[place] = [say_too_long(one.work, one.seconds, settings)]
            continue
        rows[place], said[place] = _measure_row(one, calls, peer, wait, share)
        left = max(0.0, left - (time.perf_counter() - start))
    notes += [note for place in sorted(said) for note in said[place]]
    return tuple(rows[place] for place in sorted(rows))


def _measure_row(
    one: Warm,
    calls: dict[str, Callable[[Any], Any]],
    peer: Peer | None,
    wait: Wait,
    share: float,
) -> tuple[SpeedRow, list[str]]:
    """The row, and a note if its vectors are not those of the peer."""
    work, notes = one.work, list[str]()
    contenders = {"ecliptic": calls[work.kind]}
    cosine = None
    if peer is not None and work.kind in peer.calls:
        cosine = _compare(one, peer, notes)
    if peer is not None and cosine is not None:
        contenders["peer"] = peer.calls[work.kind]
    fed = {name: _feed(call, one) for name, call in contenders.items()}
    runs = {
        name: RunSpread.of_rates(seconds, work.batch)
        for name, seconds in measure_in_turns(fed, wait, share).items()
    }
    beside = None
    if cosine is not None:
        ratio = runs["ecliptic"].median / runs["peer"].median
        beside = PeerSpeed(runs["peer"], ratio, cosine)
    return SpeedRow(work.what, work.batch, runs["ecliptic"], beside), notes


def _feed(call: Callable[[Any], Any], one: Warm) -> Callable[[int], Any]:
    return lambda number: call(one.work.input_of(number))


def _compare(one: Warm, peer: Peer, notes: list[str]) -> float | None:
    """The smallest cosine of the vectors of both for the same inputs; None if it is no peer."""
    what = f"{one.work.what}, in batches of {one.work.batch}, were not compared"
    try:
        theirs = peer.calls[one.work.kind](one.work.input_of(0))
    except Exception as reason:  # whatever another library raises
        notes.append(
            f"{what}: {peer.name} failed: {(str(reason).splitlines() or ['no reason'])[0]}"
        )
        return None
    cosine = _smallest_cosine(one.output, theirs)
    if not cosine >= _SAME_MODEL:  # NaN too
        notes.append(
            f"{what}: the vectors of {peer.name} are other ones, with cosines down to {cosine:.3f}."
        )
        return None
    return cosine


def _smallest_cosine(mine: Tensor, theirs: Tensor) -> float:
    mine, theirs = (F.normalize(rows.detach().cpu().double(), dim=-1) for rows in (mine, theirs))
    return float((mine * theirs).sum(-1).min())


def _count_bytes(clip: Clip) -> int:
    """Bytes of all weights as they are computed with; those of int8 and fp8 layers have one."""
    reduced = clip.card.quantisation
    single = {f"{name}.weight" for name in reduced.linears} if reduced else set()
    weights = clip.model.named_parameters()
    return sum(one.numel() if name in single else one.nbytes for name, one in weights)


def _describe(clip: Clip) -> MeasuredModel:
    card, config = clip.card, clip.card.config
    return MeasuredModel(
        name=card.name,
        parameters=card.parameters,
        weight_bytes=_count_bytes(clip),
        precision=card.precision,
        device=card.device,
        image_size=config.image.image_size if config.image else None,
        context=config.text.context if config.text else None,
        preprocess=card.preprocess.get("preprocess", ""),
    )
