"""The directional loss: a picture should change as a text changes, from a cat to a tiger.

Source: Gal et al. 2022, StyleGAN-NADA, arXiv:2108.00946, section 4.1, equation 2; the authors'
ZSSGAN/criteria/clip_loss.py. `ecliptic.scoring.directional_similarity` is the same as a score.
B pictures, V views, P templates, E vector size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance.chance import generator_of
from ecliptic.guidance.losses.seeing import see
from ecliptic.guidance.losses.views import Views
from ecliptic.inputs import Template, fill, fold_label
from ecliptic.scoring import text_direction

TEMPLATES = ("{}", "a drawing of {}", "a picture of {}", "an icon of {}", "a photo of {}")
# A change shorter than this counts as if it had this length. Without a change there is no
# direction; the loss is then 1 and its gradient finite, that of a step along the text.
SHORTEST = 1e-3


class DirectionalLoss:
    """1 minus the cosine of two changes, that of the picture and that of the text; 0 to 2."""

    def __init__(
        self,
        clip: Clip,
        source: str,
        target: str,
        picture: Tensor | None = None,
        *,
        templates: Sequence[Template] = TEMPLATES,
        views: Views | None = None,
        seed: int = 0,
    ) -> None:
        """Compute the direction of the text.

        Args:
            clip: with both towers.
            source: what the picture shows.
            target: what it should show.
            picture: (1 or B, 3, H, W) values 0 to 1, before the change; None: given in each call.
            templates: texts with a `{}`; the direction is the mean over them.
            views: compare views of both pictures; None compares the pictures alone.
            seed: of the views.

        Raises:
            ConfigError: the two texts are equal, one is empty, or the model sees no difference.
            MissingTowerError: the checkpoint lacks a side.
        """
        if not source.strip() or not target.strip():
            raise ConfigError("a text is empty; name what the picture shows, and what it should.")
        if fold_label(source) == fold_label(target):
            raise ConfigError(
                f"the texts {source!r} and {target!r} are the same for the model, so there is no "
                "direction from one to the other; name what the picture shows and what it should "
                "show instead."
            )
        befores, afters = (clip.encode_text(fill(templates, text)) for text in (source, target))
        direction = text_direction(befores, afters)
        if not bool(direction.any()):
            raise ConfigError(
                f"the model has the same vectors for {source!r} and {target!r}; use other words."
            )
        _ = clip.model.image_tower  # raises without one
        self.clip, self.views, self.picture = clip, views, picture
        self.direction = direction
        self.seed = seed
        self.restart()

    def restart(self) -> None:
        """Begin again with the views of the first call."""
        self._generator = generator_of(self.seed)

    def __call__(self, images: Tensor, before: Tensor | None = None) -> Tensor:
        """(B,) losses of pictures (B, 3, H, W) values 0 to 1, differentiable.

        Args:
            images: after the change.
            before: (1 or B, 3, H, W) before it; None takes the `picture` of the loss.

        Raises:
            ShapeError: the pictures before and after have other sizes.
            ConfigError: there is no picture before.
        """
        before = self.picture if before is None else before
        if before is None:
            raise ConfigError("the loss has no picture to compare with; pass picture or before.")
        if before.shape[1:] != images.shape[1:] or len(before) not in (1, len(images)):
            raise ShapeError(
                f"the pictures before {tuple(before.shape)} and after {tuple(images.shape)} differ "
                "in size; resize one."
            )
        B = len(images)
        if self.views is not None:  # the same views of both
            draw = self.views.draw(self._generator)
            images, before = self.views.look(images, draw), self.views.look(before, draw)
        with torch.no_grad():
            seen = see(self.clip, before)
        after = see(self.clip, images)
        if len(seen) != len(after):  # one picture before, for all
            seen = seen.repeat(B, 1)
        losses = direction_distance(seen, after, self.direction)
        return losses.view(B, -1).mean(1)


def direction_distance(before: Tensor, after: Tensor, direction: Tensor) -> Tensor:
    """(N,) 1 minus the cosine of `after - before` with a direction; 1 where nothing changes.

    A change shorter than `SHORTEST` is divided by that in place of its length, so value and
    gradient are finite everywhere.

    Args:
        before: (N, E) unit vectors.
        after: (N, E) unit vectors.
        direction: (E,) of length 1.
    """
    change = after - before
    length: Tensor = torch.linalg.vector_norm(change, dim=-1).clamp(min=SHORTEST)
    return 1 - (change @ direction.to(change)) / length
