"""A teacher looks at the pairs of the student with its own tokenizer, and is left as it is."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from ecliptic.checkpoints import write
from ecliptic.errors import ConfigError, MissingTowerError
from ecliptic.inputs import ImageSpec, Tokenizer
from ecliptic.train import DataSettings, TrainSettings, train
from ecliptic.train.batch import Batch
from ecliptic.train.data import tokenize
from ecliptic.train.settings import (
    DistillationConfig,
    FolderConfig,
    InfoNCEConfig,
    OptimSettings,
    TableConfig,
)
from ecliptic.train.stepping import Stepper, build_loss
from ecliptic.train.teacher import open_teacher
from ecliptic.train.trainee import open_start
from tests import tiny

from .trainees import SETTINGS, gradients_of, largest_error

TEXTS = ("a cat", "Two dogs in the snow", "a cat", "", "x " * 40)
CHECKPOINT = tiny.checkpoint("cut", "gelu")  # 12 positions, another vocabulary
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "cut.safetensors"
    write(CHECKPOINT, path)
    return path


def settings_for(teacher: Path, **more: object) -> TrainSettings:
    assert SETTINGS.model
    assert SETTINGS.model.image
    model = replace(SETTINGS.model, image=replace(SETTINGS.model.image, image_size=32))
    loss = DistillationConfig(teacher=str(teacher))
    return replace(SETTINGS, model=model, image_spec=ImageSpec(size=32), loss=loss, **more)  # type: ignore[arg-type]


def make_batch(tokenizer: Tokenizer) -> Batch:
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(pixels, *tokenize(tokenizer, TEXTS), torch.tensor([0, 1, 0, 2, 3]), TEXTS)


def test_a_teacher_sees_the_pairs_with_its_own_tokenizer(teacher: Path) -> None:
    settings = settings_for(teacher)
    found = open_teacher(settings, settings.pixels, CPU)
    assert found
    batch = make_batch(Tokenizer(settings.tokens))
    images, texts, scale = found(batch)
    model = tiny.model(CHECKPOINT)
    with torch.no_grad():
        tokens, _ = tokenize(Tokenizer(tiny.CUT), TEXTS)
        wanted = model.encode_image(batch.pixels), model.encode_text(tokens)
    torch.testing.assert_close(images, F.normalize(wanted[0], dim=-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(texts, F.normalize(wanted[1], dim=-1), rtol=0, atol=1e-5)
    torch.testing.assert_close(scale, model.logit_scale.detach())
    assert not any(v.requires_grad for v in (images, texts))
    with pytest.raises(ConfigError, match="5 pairs holds 0 texts"):
        found(replace(batch, texts=()))


def test_a_student_that_is_its_teacher_has_nothing_to_learn(teacher: Path) -> None:
    settings = TrainSettings(
        start=str(teacher), loss=DistillationConfig(teacher=str(teacher)), precision="fp32"
    )
    trainee, image_spec, tokenizer_spec = open_start(settings)
    teach = open_teacher(settings, image_spec, CPU)
    stepper = Stepper(trainee, settings, build_loss(settings.loss), teach=teach)
    loss = stepper.accumulate(make_batch(Tokenizer(tokenizer_spec)))
    assert abs(float(loss)) < 1e-5
    trainee.zero_grad()
    wanted = Stepper(trainee, replace(settings, loss=InfoNCEConfig()), build_loss(InfoNCEConfig()))
    assert float(wanted.accumulate(make_batch(Tokenizer(tokenizer_spec)))) > 0.1


def test_parts_of_a_batch_have_one_teacher(teacher: Path) -> None:
    found = []
    for micro in (0, 2):
        settings = settings_for(teacher, micro=micro)
        trainee, image_spec, tokenizer_spec = open_start(settings)
        teach = open_teacher(settings, image_spec, CPU)
        stepper = Stepper(trainee, settings, build_loss(settings.loss), teach=teach)
        stepper.accumulate(make_batch(Tokenizer(tokenizer_spec)))
        found.append(gradients_of(trainee))
    assert largest_error(found[1], found[0]) < 1e-5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ImageSpec(size=16), "image_spec.size = 32, the student with 16"),
        (ImageSpec(size=32, mean=(0.5, 0.5, 0.5)), "takes pixels with image_spec.mean = (0.48"),
        (ImageSpec(size=32, std=(0.5, 0.5, 0.5)), "both see the same pixels"),
    ],
)
def test_a_teacher_of_other_pixels_is_refused(teacher: Path, spec: ImageSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        open_teacher(settings_for(teacher), spec, CPU)


def test_a_teacher_needs_a_name_and_both_towers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss\.teacher is empty"):
        replace(SETTINGS, loss=DistillationConfig())
    write(tiny.checkpoint("text"), tmp_path / "text.safetensors")
    with pytest.raises(MissingTowerError, match="has one tower only; a teacher needs both"):
        open_teacher(settings_for(tmp_path / "text.safetensors"), ImageSpec(size=32), CPU)
    assert open_teacher(SETTINGS, SETTINGS.pixels, CPU) is None


def test_a_teacher_takes_no_negatives() -> None:
    source = TableConfig(Path("pairs.csv"), negatives=("wrong",))
    with pytest.raises(ConfigError, match="a distillation takes no negatives"):
        replace(
            SETTINGS,
            loss=DistillationConfig(teacher="mini"),
            data=DataSettings(sources=(source,)),
        )


@pytest.mark.filterwarnings("ignore::ecliptic.train.session.HealthWarning")
def test_a_run_follows_its_teacher(teacher: Path, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (12, 1, 1, 3), np.uint8)
    for number, colour in enumerate(colours):
        Image.fromarray(colour.repeat(32, 0).repeat(32, 1)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(f"picture {number}\n")
    data = DataSettings(root=tmp_path, sources=(FolderConfig(Path()),), batch=8)
    optim = OptimSettings(rate=2e-3, warmup=2, schedule="constant")
    settings = settings_for(teacher, data=data, steps=20, log_every=1, optim=optim, micro=4)
    run = train(settings, tmp_path / "run")
    losses = [line["loss"] for line in run.history if "loss" in line]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
