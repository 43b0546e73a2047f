"""Several processes train as one: same losses, gradients and weights, however they share them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec
from ecliptic.model import ResNetConfig
from ecliptic.train.batch import Batch, Negatives
from ecliptic.train.processes import join, whole
from ecliptic.train.processes.world import World
from ecliptic.train.processes.wrapping import distribute
from ecliptic.train.settings import (
    DataSettings,
    DistillationConfig,
    EmaSettings,
    OptimSettings,
    ProcessSettings,
    SigLIPConfig,
    TextPairsSettings,
    TowerSettings,
    TrainSettings,
    WordNetConfig,
)
from ecliptic.train.stepping import Stepper, build_loss
from ecliptic.train.trainee import Trainee, open_start
from tests.train.processes.models import SIZES, draw_batch, tiny_settings
from tests.train.processes.together import TIMEOUT, run_together

CASES: dict[str, dict[str, Any]] = {
    "infonce": {"ema": EmaSettings(0.9)},
    "micro": {"micro": 3, "text": TowerSettings(checkpointing=True)},
    "siglip": {"loss": SigLIPConfig(), "optim": OptimSettings(warmup=2, rate=1e-3, clip=0.1)},
    "distillation": {"loss": DistillationConfig(teacher="x", weight=0.5), "micro": 4},
    "text pairs": {
        "micro": 4,
        "data": DataSettings(
            batch=17, texts=TextPairsSettings((WordNetConfig(Path()),), batch=11, weight=0.7)
        ),
    },
    "text": {
        "trains": "text",
        "text": TowerSettings(freeze_layers=2, rate_decay=0.5),
        "micro": 4,
    },
}
SPLITS = {2: ((9, 8), (12, 5), (17, 0)), 4: ((5, 4, 4, 4), (7, 6, 3, 1), (8, 0, 8, 1))}


def teach(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors that are functions of the pair, whichever process asks."""
    images = F.normalize(batch.pixels.flatten(1)[:, :8], dim=-1)
    texts = F.normalize(batch.tokens[:, :8].float() + 1, dim=-1)
    return images, texts, torch.tensor(3.0)


def open_stepper(settings: TrainSettings, world: World | None) -> Stepper:
    trainee, _, _ = open_start(settings)
    teaches = teach if isinstance(settings.loss, DistillationConfig) else None
    encode = None if world is None else world.distribute(trainee)
    ring = None if world is None else world.ring
    loss = build_loss(settings.loss)
    return Stepper(trainee, settings, loss, encode=encode, ring=ring, teach=teaches)


def check_case(settings: TrainSettings, world: World, split: tuple[int, ...]) -> None:
    start = sum(split[: world.rank])
    alone, shared = open_stepper(settings, None), open_stepper(settings, world)
    texts = settings.data.texts.batch if settings.data.texts.sources else 0
    batch = draw_batch(sum(split), texts=texts)
    part = batch.part(start, start + split[world.rank])
    loss = alone.accumulate(batch)
    [total] = world.add([float(shared.accumulate(part))])
    assert total / world.size == pytest.approx(float(loss), rel=1e-6)
    compare(gradients_of(shared.trainee), gradients_of(alone.trainee), 2e-6)  # AVX-512: 1.2e-6
    for number in range(5):
        batch = draw_batch(sum(split), seed=number, texts=texts)
        part = batch.part(start, start + split[world.rank])
        one, many = alone.step(batch, number), shared.step(part, number)
        assert many.norm == pytest.approx(one.norm, rel=1e-5)
        assert many.parts.keys() == one.parts.keys()
        for name, value in one.parts.items():
            [total] = world.add([many.parts[name]])
            assert total / world.size == pytest.approx(value, rel=1e-5)
    compare_weights(weights_of(shared.trainee), weights_of(alone.trainee))
    if alone.average is not None and shared.average is not None:
        averages = {name: whole(e) for name, e in shared.average.weights.items()}
        compare_weights(averages, alone.average.weights)


def gradients_of(trainee: Trainee) -> dict[str, Tensor]:
    return {n: whole(p.grad) for n, p in trainee.named_parameters() if p.grad is not None}


def weights_of(trainee: Trainee) -> dict[str, Tensor]:
    return {name: whole(weight) for name, weight in trainee.state_dict().items()}


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], error: float) -> None:
    """Relative to each tensor, or to all of them for one that is nearly zero."""
    assert found.keys() == expected.keys()
    scale = torch.stack([tensor.norm() for tensor in expected.values()]).norm()
    for name, tensor in expected.items():
        off = (found[name] - tensor).norm()
        assert off <= error * tensor.norm() + 1e-2 * error * scale, (name, off, tensor.norm())


def compare_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Within 0.5 % of one step, as AdamW turns rounding errors of a zero gradient into steps."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=5e-6, msg=name)


def check_all(rank: int, splits: tuple[tuple[int, ...], ...], cases: dict[str, Any]) -> None:
    for kind in ("ddp", "fsdp"):
        check_kind(rank, kind, splits, cases)


def check_kind(
    rank: int, kind: str, splits: tuple[tuple[int, ...], ...], cases: dict[str, Any]
) -> None:
    with join(ProcessSettings(kind, TIMEOUT), "cpu") as world:
        for name, fields in cases.items():
            for split in splits:
                with_context(
                    lambda f=fields, s=split, w=world: check_case(tiny_settings(**f), w, s),
                    f"{kind}, {name}, {split}, rank {rank}",
                )


def check_negatives_of_one_rank(rank: int) -> None:
    for kind in ("ddp", "fsdp"):
        with join(ProcessSettings(kind, TIMEOUT), "cpu") as world:
            settings = tiny_settings()
            alone, shared = open_stepper(settings, None), open_stepper(settings, world)
            others = draw_batch(3, seed=9)
            hard = Negatives(others.tokens, others.lengths, others.captions)
            batch = replace(draw_batch(9), negatives=hard)
            part = batch.part(5 * rank, 5 + 4 * rank)
            part = replace(part, negatives=None if rank else hard)
            alone.accumulate(batch)
            shared.accumulate(part)
            compare(
                gradients_of(shared.trainee), gradients_of(alone.trainee), 2e-6
            )  # AVX-512: 1.2e-6


def with_context(check: Callable[[], None], words: str) -> None:
    try:
        check()
    except Exception as error:
        error.add_note(words)
        raise


@pytest.mark.slow
def test_e5_e6_two_processes_with_uneven_shares_train_as_one() -> None:
    run_together(check_few, 2)


def check_few(rank: int) -> None:
    check_kind(rank, "ddp", ((12, 5),), {"infonce": CASES["infonce"]})
    check_kind(rank, "ddp", ((12, 5),), {"text pairs": CASES["text pairs"]})
    check_kind(rank, "fsdp", ((17, 0),), {"micro": CASES["micro"]})


@pytest.mark.slow
def test_only_one_of_two_processes_has_negatives() -> None:
    """Shards are fetched by both at once, so both must encode texts the same number of times."""
    run_together(check_negatives_of_one_rank, 2)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_resnet_in_training_is_refused(kind: Literal["ddp", "fsdp"]) -> None:
    model = replace(SIZES, image=ResNetConfig(image_size=32, width=8, depths=(1, 1, 1, 1), heads=4))
    trainee, _, _ = open_start(tiny_settings(model=model, image_spec=ImageSpec(size=32)))
    with pytest.raises(ConfigError, match="batch norms of this model"):
        distribute(trainee, kind, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_e5_processes_train_as_one_with_every_loss(size: int) -> None:
    run_together(check_all, size, SPLITS[size], CASES)
