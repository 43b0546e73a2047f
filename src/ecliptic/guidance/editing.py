"""Edits a picture along a change of words, "a cat" to "a tiger", and holds the rest.

The picture is changed in one of the `WAYS`, each a canvas that begins as the picture. A way is a
row of a table: a new one is a new row. H high, W wide.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.checks import check_choice, check_count, check_range
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError
from ecliptic.guidance.canvases.canvas import Canvas, MaskedCanvas, check_mask
from ecliptic.guidance.canvases.fourier import FourierCanvas
from ecliptic.guidance.canvases.strokes import StrokesCanvas
from ecliptic.guidance.losses.directions import DirectionalLoss, direction_distance
from ecliptic.guidance.losses.pixel_losses import PixelDifference
from ecliptic.guidance.losses.seeing import see
from ecliptic.guidance.losses.views import Views
from ecliptic.guidance.losses.weighted import WeightedLoss
from ecliptic.guidance.optimising import Optimised, StepReport, optimise
from ecliptic.guidance.sketching import check_size
from ecliptic.inputs import WHITE, ImageSource, ImageSpec, Preprocess

BLACK = (0, 0, 0)
STROKES = 96  # of a painted picture, if the settings do not say
FIT = 60  # steps that fit strokes to the picture before the edit


@dataclass(frozen=True)
class EditSettings:
    """How a picture is edited; `strokes` is for the way of that name."""

    steps: int = 120
    size: int = 96  # pixels of the longer side while it is edited
    keep: float = 2.0  # weight of the mean squared difference to the picture
    views: int = 8  # per step
    mask: "ImageSource | None" = None  # white may change; as large as the picture
    strokes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "views"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, least=0)
        if self.strokes is not None:
            check_count("strokes", self.strokes)
        check_range("keep", self.keep)
        check_size(self.size)


Start = Callable[[Tensor, EditSettings], Canvas]  # of a picture (1, 3, H, W)


@dataclass(frozen=True)
class Way:
    """One way to hold a picture while it changes."""

    start: Start
    says: str  # for people
    settings: frozenset[str] = frozenset()  # of `EditSettings` that only some ways have


def _start_pixels(picture: Tensor, settings: EditSettings) -> Canvas:  # noqa: ARG001 as `Start`
    return FourierCanvas.of(picture)


def _start_strokes(picture: Tensor, settings: EditSettings) -> Canvas:
    """Strokes over the picture, fitted to it."""
    canvas = StrokesCanvas.over(picture, settings.strokes or STROKES, settings.seed)
    optimise(canvas, PixelDifference(picture), FIT, frames=0, seed=settings.seed)
    return canvas


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "pixels": Way(_start_pixels, "every pixel may change"),
        "strokes": Way(_start_strokes, "painted with strokes, which move", frozenset({"strokes"})),
    }
)


@dataclass(frozen=True)
class Edit:
    """A picture that was edited."""

    before: Tensor  # (1, 3, H, W) the picture, values 0 to 1
    after: Tensor  # (1, 3, H, W) of the same size
    way: Optimised  # at the size of the work
    canvas: Canvas | None  # None: it was drawn anew
    along: float  # cosine of the change of the picture with that of the words, -1 to 1
    moved: float  # how much nearer it is to the second text than it was: difference of cosines

    def svg(self, title: str = "") -> str:
        """The drawing of the way "strokes" as SVG.

        Raises:
            ConfigError: another way, or a mask: what is outside it is no stroke.
        """
        if not isinstance(self.canvas, StrokesCanvas):
            what = "has a mask" if isinstance(self.canvas, MaskedCanvas) else "is made of pixels"
            raise ConfigError(f"this edit {what}, which an SVG cannot hold; write a PNG.")
        return self.canvas.svg(title)


def check_way(way: str, settings: EditSettings) -> Way:
    """The row of `WAYS`; ConfigError for an unknown one, or for a setting without effect in it."""
    check_choice("way", way, WAYS)
    if settings.strokes is not None and "strokes" not in WAYS[way].settings:
        raise ConfigError(
            f"strokes={settings.strokes} has no effect on the way {way!r}; leave it out, or pass "
            'way="strokes".'
        )
    return WAYS[way]


def edit(
    picture: ImageSource,
    source: str,
    target: str,
    clip: Clip,
    way: str = "pixels",
    settings: EditSettings | None = None,
    report: StepReport | None = None,
) -> Edit:
    """Change `picture` as `source` changes into `target`.

    The work is done at `settings.size`; the change is then enlarged and added to the picture, which
    keeps its size and its detail. Strokes are drawn at the size of the picture. Pixels where the
    mask is black stay exactly as they are.

    Args:
        picture: a path, PIL image, bytes or array.
        source: what it shows.
        target: what it should show instead.
        clip: with both towers.
        way: a name of `WAYS`.
        settings: None takes the defaults.
        report: called after each step with its number, from 1, and the loss before it.

    Raises:
        ImageError: the picture or the mask cannot be read.
        ConfigError: equal texts, an unknown way, a setting without effect in the way, a black mask.
        ShapeError: the mask has another size than the picture.
        MissingTowerError: the checkpoint lacks a side.
    """
    how = settings or EditSettings()
    row = check_way(way, how)
    whole = read_picture(picture)
    mask = read_mask(how.mask, whole) if how.mask is not None else None
    small = _shrink(whole, how.size)
    views = Views(how.views, "jitter" if way == "pixels" else "perspective")
    loss = DirectionalLoss(clip, source, target, small, views=views, seed=how.seed)
    canvas = row.start(small, how)
    if mask is not None:
        inside = F.interpolate(mask, small.shape[-2:], mode="area")
        canvas = MaskedCanvas(canvas, small, inside)
    with torch.no_grad():
        start = canvas.render()
    held = WeightedLoss([(loss, 1.0), (PixelDifference(small), how.keep)])
    done = optimise(canvas, held, how.steps, report=report, seed=how.seed)
    after = _enlarge(whole, canvas, done.picture - start, mask)
    return Edit(whole, after, done, canvas, *judge_edit(loss, small, done.picture, target))


def read_picture(source: ImageSource, ground: tuple[int, int, int] = WHITE) -> Tensor:
    """(1, 3, H, W) values 0 to 1 of any image: upright, on `ground` where it is transparent.

    Raises:
        ImageError: it cannot be read.
    """
    image = Preprocess(ImageSpec(), "robust", ground).load(source)
    rgb = np.array(image.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(rgb).permute(2, 0, 1)[None]


def read_mask(source: ImageSource, picture: Tensor) -> Tensor:
    """(1, 1, H, W) values 0 to 1 of a mask for `picture`; white is 1, what is transparent 0.

    Raises:
        ImageError: it cannot be read.
        ShapeError: it has another size than the picture.
        ConfigError: it is black everywhere.
    """
    mask = read_picture(source, BLACK).mean(1, keepdim=True)
    check_mask(mask, picture)
    return mask


def to_bytes(picture: Tensor) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of the first of (B, 3, H, W) values 0 to 1."""
    rgb = picture[0].detach().clamp(0, 1).mul(255).round().byte()
    return np.asarray(rgb.permute(1, 2, 0).cpu())


def _shrink(picture: Tensor, size: int) -> Tensor:
    """The picture with a longer side of at most `size`."""
    high, wide = picture.shape[-2:]
    share = min(1.0, size / max(high, wide))
    to = (max(1, round(high * share)), max(1, round(wide * share)))
    if to == (high, wide):
        return picture
    small = F.interpolate(picture, to, mode="bicubic", antialias=True, align_corners=False)
    return small.clamp(0, 1)


def _enlarge(whole: Tensor, canvas: Canvas, change: Tensor, mask: Tensor | None) -> Tensor:
    """The picture at its own size with the change of the smaller one."""
    size = (whole.shape[-2], whole.shape[-1])
    inner = canvas.canvas if isinstance(canvas, MaskedCanvas) else canvas
    if isinstance(inner, StrokesCanvas):
        changed = inner.enlarge(size)
    else:
        change = F.interpolate(change, size, mode="bicubic", align_corners=False)
        changed = (whole + change).clamp(0, 1)
    if mask is None:
        return changed
    return (whole + mask * (changed - whole)).where(mask > 0, whole)


@torch.no_grad()
def judge_edit(
    loss: DirectionalLoss, before: Tensor, after: Tensor, target: str
) -> tuple[float, float]:
    """How an edit is measured.

    Args:
        loss: has the model and the direction of the words.
        before: (1, 3, H, W), values 0..1.
        after: (1, 3, H, W).
        target: the second text.

    Returns:
        Cosine of the change of the picture with that of the words, and how much nearer the picture
        is to the second text.
    """
    seen = see(loss.clip, torch.cat([before, after]))
    along = 1 - direction_distance(seen[:1], seen[1:], loss.direction)
    cosines = seen.cpu() @ loss.clip.encode_text(target)[0]
    return float(along[0]), float(cosines[1] - cosines[0])
