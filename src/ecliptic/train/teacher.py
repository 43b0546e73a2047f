"""The teacher of a distillation: a trained model that looks at the same pairs.

B pairs of this process, E' vector size of the teacher.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.engine import open_checkpoint
from ecliptic.errors import ConfigError, MissingTowerError
from ecliptic.inputs import ImageSpec, Tokenizer
from ecliptic.model import TwoTowers
from ecliptic.runtime import Runtime
from ecliptic.train.batch import Batch
from ecliptic.train.data import tokenize
from ecliptic.train.settings import DistillationConfig, TrainSettings
from ecliptic.train.trainee import copy_model

PART = 128  # pairs that it encodes at once


class Teacher:
    """Encodes the pairs of a batch in float32 and without gradients.

    Args:
        model: in eval mode.
        tokenizer: of the model, which may be another one than that of the student.
    """

    def __init__(self, model: TwoTowers, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._runtime = Runtime(model.eval().requires_grad_(False))

    @torch.no_grad()
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(B, E') and (B, E') unit vectors of images and texts, and logit_scale.

        Raises:
            ConfigError: the batch does not hold the texts of its captions.
        """
        if len(batch.texts) != len(batch):
            raise ConfigError(
                f"a batch of {len(batch)} pairs holds {len(batch.texts)} texts, but a teacher "
                "needs all of them for its own tokenizer; give the batch its texts."
            )
        width = self._runtime.model.config.embed
        images = [torch.empty(0, width, device=self._runtime.device)]
        texts = list(images)
        for start in range(0, len(batch), PART):
            part = batch.part(start, start + PART)
            images.append(self._runtime.image(part.normalised(self._runtime.device)))
            texts.append(self._runtime.text(tokenize(self.tokenizer, part.texts)[0]))
        unit = (F.normalize(torch.cat(vectors), dim=-1) for vectors in (images, texts))
        return (*unit, self._runtime.model.logit_scale)  # type: ignore[return-value]


def open_teacher(
    settings: TrainSettings, image_spec: ImageSpec, device: torch.device
) -> Teacher | None:
    """The teacher that `settings.loss` names; None where it names none.

    Args:
        settings: of the run.
        image_spec: of the pixels in its batches.
        device: of the teacher.

    Raises:
        ConfigError: it sees other pixels than the student.
        MissingTowerError: it has one tower only.
        UnknownModelError, CheckpointError: it cannot be loaded.
    """
    if not isinstance(settings.loss, DistillationConfig):
        return None
    name = settings.loss.teacher
    found = open_checkpoint(name)
    if None in (found.config.image, found.config.text, found.image_spec, found.tokenizer_spec):
        raise MissingTowerError(
            f"loss.teacher = {name!r} has one tower only; a teacher needs both, as it tells how "
            "similar images and texts are."
        )
    _check_pixels(name, found.image_spec, image_spec)
    return Teacher(copy_model(found).to(device), Tokenizer(found.tokenizer_spec))


def _check_pixels(name: str, theirs: ImageSpec | None, ours: ImageSpec) -> None:
    for field in ("size", "mean", "std"):
        if (wanted := getattr(theirs, field)) != (got := getattr(ours, field)):
            raise ConfigError(
                f"the teacher {name!r} takes pixels with image_spec.{field} = {wanted}, the "
                f"student with {got}; both see the same pixels, so train a student with {wanted}, "
                "or take another teacher."
            )
