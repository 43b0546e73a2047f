"""The directional loss equals the score, has true gradients, and is finite without a change."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ecliptic.engine import Clip, load
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance import DirectionalLoss, Views, adapt_generator
from ecliptic.guidance.losses.directions import SHORTEST, direction_distance
from ecliptic.guidance.losses.seeing import see
from ecliptic.scoring import directional_similarity
from tests.guidance.slopes import check_slopes


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    from ecliptic.checkpoints import write
    from tests import tiny

    path = tmp_path_factory.mktemp("models") / "tiny"
    write(tiny.checkpoint("vit"), path)
    return load(str(path), device="cpu")


def pictures(count: int, size: int = 32) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3))


def test_it_is_one_minus_the_directional_similarity(clip: Clip) -> None:
    before, after = pictures(6).split(3)
    loss = DirectionalLoss(clip, "a cat", "a tiger", templates=["{}"])
    found = loss(after, before)
    with torch.no_grad():
        vectors = see(clip, before), see(clip, after)
    texts = [clip.encode_text(text).expand(3, -1) for text in ("a cat", "a tiger")]
    wanted = 1 - directional_similarity(*vectors, *texts)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-5)


def test_what_is_seen_is_what_the_model_encodes(clip: Clip) -> None:
    image = (255 * pictures(1)[0]).byte()
    with torch.no_grad():
        found = see(clip, image[None].float() / 255)
    wanted = clip.encode_image(image.permute(1, 2, 0).numpy())
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-2])
def test_gradients_are_the_slopes(scale: float) -> None:
    before = nn.functional.normalize(torch.randn(4, 6, dtype=torch.float64), dim=-1)
    direction = nn.functional.normalize(torch.randn(6, dtype=torch.float64), dim=-1)
    start = before + scale * torch.randn(4, 6, dtype=torch.float64)
    check_slopes(lambda x: direction_distance(before, x, direction), start)
    near = before + SHORTEST / 10 * torch.randn(4, 6, dtype=torch.float64)
    check_slopes(lambda x: direction_distance(before, x, direction), near)


def test_without_a_change_it_is_one_and_its_gradient_points_along_the_text() -> None:
    before = nn.functional.normalize(torch.randn(2, 6), dim=-1)
    direction = nn.functional.normalize(torch.randn(6), dim=-1)
    after = before.clone().requires_grad_()
    loss = direction_distance(before, after, direction)
    assert loss.tolist() == [1.0, 1.0]
    (gradient,) = torch.autograd.grad(loss.sum(), after)
    torch.testing.assert_close(gradient, (-direction / SHORTEST).expand(2, -1))


def test_an_unchanged_picture_has_a_finite_gradient_that_leads_down(clip: Clip) -> None:
    picture = pictures(1)
    for views in (None, Views(3)):
        loss = DirectionalLoss(clip, "a cat", "a tiger", picture, views=views)
        start = picture.clone().requires_grad_()
        value = loss(start)
        assert float(value.detach()) == pytest.approx(1.0, abs=1e-3)
        (gradient,) = torch.autograd.grad(value.sum(), start)
        assert gradient.isfinite().all()
        loss.restart()
        with torch.no_grad():
            moved = loss(picture - 0.05 * gradient / gradient.abs().max())
        assert float(moved) < 0.9


def test_views_are_of_both_pictures_and_repeat(clip: Clip) -> None:
    picture, other = pictures(2).split(1)
    loss = DirectionalLoss(clip, "a cat", "a tiger", picture, views=Views(2), seed=4)
    with torch.no_grad():
        first, second = float(loss(other)), float(loss(other))
        loss.restart()
        assert float(loss(other)) == first != second
    assert loss(pictures(3)).shape == (3,)
    assert loss(pictures(3), pictures(3)).shape == (3,)


def test_equal_texts_and_missing_or_other_pictures_are_refused(clip: Clip) -> None:
    with pytest.raises(ConfigError, match="'a cat' and 'A  cat' are the same for the model"):
        DirectionalLoss(clip, "a cat", "A  cat")
    loss = DirectionalLoss(clip, "a cat", "a dog")
    with pytest.raises(ConfigError, match="no picture to compare with"):
        loss(pictures(1))
    with pytest.raises(ShapeError, match="differ in size; resize one"):
        loss(pictures(1), pictures(1, 16))
    with pytest.raises(ConfigError, match=r"has no \{\}"):
        DirectionalLoss(clip, "a cat", "a dog", templates=["a drawing"])


class Painter(nn.Module):
    """A generator: one layer from 4 numbers to a picture of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3 * 64)

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z).sigmoid().view(-1, 3, 8, 8)


def sample(random: torch.Generator) -> Tensor:
    return torch.randn(4, 4, generator=random)


def test_a_generator_learns_the_change_for_inputs_that_it_did_not_see(clip: Clip) -> None:
    loss = DirectionalLoss(clip, "a cat", "a tiger")
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        painter, frozen = Painter(), Painter()
        frozen.load_state_dict(painter.state_dict())
        done = adapt_generator(painter, loss, sample, 15, rate=0.02)
        results.append(done.losses)
    assert results[0] == results[1]
    assert done.losses[0] == pytest.approx(1.0, abs=1e-3)
    z = torch.randn(16, 4)
    with torch.no_grad():
        assert float(loss(painter(z), frozen(z)).mean()) < 0.8
    assert all(weight.grad is None for weight in clip.model.parameters())


def test_a_training_that_breaks_says_so_and_nothing_to_train_is_refused(clip: Clip) -> None:
    loss: Any = lambda images, before: images.mean((1, 2, 3)) * float("nan")  # noqa: E731
    loss.restart = lambda: None
    painter = Painter()
    start = painter.layer.weight.detach().clone()
    done = adapt_generator(painter, loss, sample, 3)
    assert "became NaN or infinite in step 1" in done.notice
    assert torch.equal(painter.layer.weight, start)
    with pytest.raises(ConfigError, match="no parameter of the generator requires gradients"):
        adapt_generator(painter.requires_grad_(False), loss, sample, 3)
