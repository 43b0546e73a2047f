"""`guided` beside its own algebra: five kinds, batches, dtypes, memory, and bad input."""

import pytest
import torch
from torch import Tensor, nn

from ecliptic.errors import ConfigError, NumericalError, ShapeError
from ecliptic.guidance import (
    ClipLoss,
    Parametrisation,
    WeightedLoss,
    from_x0,
    guided,
    steer,
    to_x0,
)
from tests.guidance.gaussian import KINDS
from tests.guidance.pipelines.tiny_pipelines import clip


def shares(kind: Parametrisation, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(6, 1) shares of image and noise that the kind allows."""
    u = torch.rand(6, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u = u * 0.9 + 0.05
    if kind == "karras":
        return torch.ones_like(u), 10 * u
    if kind == "flow":
        return 1 - u, u
    return torch.cos(u * 1.5), torch.sin(u * 1.5)


def tiny(seed: int = 0) -> nn.Sequential:
    """A small smooth network (B, 8) -> (B, 8)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8)).double()


def squares(x0: Tensor) -> Tensor:
    return (x0 - 1).square().sum(dim=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_and_its_x0_are_the_same(kind: Parametrisation) -> None:
    a, s = shares(kind)
    x, prediction = torch.randn(2, 6, 8, dtype=torch.float64)
    again = from_x0(kind, to_x0(kind, prediction, x, a, s), x, a, s)
    torch.testing.assert_close(again, prediction, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_move_x0_by_the_same_amount(kind: Parametrisation) -> None:
    a, s = shares(kind)
    x, prediction, g = torch.randn(3, 6, 8, dtype=torch.float64)
    before = to_x0(kind, prediction, x, a, s)
    after = to_x0(kind, steer(kind, prediction, g, a, s), x, a, s)
    torch.testing.assert_close(after - before, s.square() / a * g, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_kinds_on_one_schedule_are_guided_alike(kind: Parametrisation) -> None:
    a, s = shares("v")
    net = tiny()

    def predicts(as_kind: Parametrisation, x: Tensor) -> Tensor:
        return from_x0(as_kind, net(x), x, a, s)

    x = torch.randn(6, 8, dtype=torch.float64)
    t = torch.zeros(6)
    levels = {"alphas": lambda _: a[:, 0], "sigmas": lambda _: s[:, 0]}
    found = guided(lambda x, _: predicts(kind, x), squares, 3.0, kind, **levels)(x, t)  # type: ignore[arg-type]
    wanted = guided(lambda x, _: net(x), squares, 3.0, "x0", **levels)(x, t)  # type: ignore[arg-type]
    torch.testing.assert_close(to_x0(kind, found, x, a, s), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("through", ["denoiser", "x0"])
@pytest.mark.parametrize("blend", [False, True])
def test_a_batch_is_guided_as_each_sample(through: str, blend: bool) -> None:
    net = tiny()
    options = {"through": through, "blend": blend, "clamp": 0.3}
    scale = torch.tensor([0.0, 1.0, 5.0, -2.0])
    x, t = torch.randn(4, 8, dtype=torch.float64), torch.tensor([0.1, 0.5, 0.9, 0.3]).double()
    together = guided(lambda x, t: net(x), squares, scale, "flow", **options)(x, t)  # type: ignore[arg-type]
    alone = [
        guided(lambda x, t: net(x), squares, float(scale[i]), "flow", **options)(  # type: ignore[arg-type]
            x[i : i + 1], t[i : i + 1]
        )
        for i in range(4)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-9, atol=1e-9)


def test_the_gradient_is_that_of_finite_differences() -> None:
    net = tiny()
    x, t = torch.randn(1, 8, dtype=torch.float64), torch.tensor([0.6], dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        return squares(x - 0.6 * net(x))

    with torch.no_grad():
        steps = 1e-6 * torch.eye(8, dtype=torch.float64)
        slope = torch.stack([(value(x + d) - value(x - d))[0] / 2e-6 for d in steps])
        wanted = net(x) + 0.6 / 0.4 * 2.0 * slope
    found = guided(lambda x, t: net(x), squares, 2.0, "flow")(x, t)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_saving_memory_computes_twice_and_changes_no_number() -> None:
    net, x, t = tiny(), torch.randn(3, 8, dtype=torch.float64), torch.full((3,), 0.5).double()
    calls: list[int] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        calls.append(len(x))
        return net(x)  # type: ignore[no-any-return]

    plain = guided(denoise, squares, 2.0, "flow")(x, t)
    assert len(calls) == 1
    saved = guided(denoise, squares, 2.0, "flow", save_memory=True)(x, t)
    assert len(calls) == 3
    assert torch.equal(plain, saved)


@pytest.mark.parametrize("through", ["denoiser", "x0"])
def test_a_blend_is_seen_by_the_loss(through: str) -> None:
    x, t = torch.full((1, 8), 2.0, dtype=torch.float64), torch.tensor([0.5]).double()
    seen: list[Tensor] = []

    def loss(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return squares(images)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return x - 1  # x0 = x - t (x - 1) = 1.5

    found = guided(denoise, loss, 1.0, "flow", blend=True, through=through)(x, t)  # type: ignore[arg-type]
    share = 0.5**0.5
    torch.testing.assert_close(seen[0], torch.full_like(x, 1.5 * share + 2.0 * (1 - share)))
    for_images = 2 * (float(seen[0][0, 0]) - 1)
    jacobian = 0.5 if through == "denoiser" else 0.5 / 0.5  # a / (a^2 + s^2) of white data
    g = for_images * (share * jacobian + (1 - share))
    torch.testing.assert_close(found - denoise(x, t), torch.full_like(x, g))


def test_a_clamp_limits_the_gradient_and_nothing_below_it() -> None:
    def pull(clamp: float | None) -> Tensor:
        still = lambda x, t: torch.zeros_like(x)  # noqa: E731
        x, t = torch.full((1, 8), 2.0, dtype=torch.float64), torch.tensor([0.5]).double()
        return guided(still, squares, 1.0, "flow", clamp=clamp)(x, t)

    assert torch.equal(pull(None), pull(100.0))
    torch.testing.assert_close(pull(0.05).square().mean().sqrt(), torch.tensor(0.05).double())


def test_at_pure_noise_there_is_nothing_to_steer() -> None:
    net, x = tiny(), torch.randn(2, 8, dtype=torch.float64)
    t = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = guided(lambda x, t: net(x), squares, 2.0, "flow")(x, t)
    assert torch.equal(found[0], net(x)[0])
    assert not torch.equal(found[1], net(x)[1])


def test_it_works_inside_inference_mode_and_without_gradients() -> None:
    net, t = tiny(), torch.full((2,), 0.5).double()
    x = torch.randn(2, 8, dtype=torch.float64)
    steered = guided(lambda x, t: net(x), squares, 2.0, "flow")
    with torch.inference_mode():
        inside = steered(x.clone(), t.clone())
    with torch.no_grad():
        torch.testing.assert_close(steered(x, t), inside)
    assert not inside.requires_grad


def test_half_precision_stays_half() -> None:
    x, t = torch.randn(2, 8).bfloat16(), torch.full((2,), 0.5)
    net = tiny().bfloat16()
    found = guided(lambda x, t: net(x), squares, 2.0, "flow")(x, t)
    assert found.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"parametrisation": "epsilon"}, ConfigError, "unknown parametrisation 'epsilon'.*eps"),
        ({"parametrisation": "v"}, ConfigError, "'v' needs both alphas and sigmas"),
        ({"scale": float("nan")}, ConfigError, "scale must be finite"),
        ({"scale": "100"}, ConfigError, "scale must be a number, got '100'"),
        ({"through": "unet"}, ConfigError, 'through must be "denoiser" or "x0"'),
        ({"clamp": 0.0}, ConfigError, "clamp must be above 0"),
        ({"through": "x0", "save_memory": True}, ConfigError, "save_memory has no effect"),
    ],
)
def test_bad_settings_are_refused_before_the_first_step(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    settings = {"scale": 1.0, "parametrisation": "flow"} | change
    with pytest.raises(error, match=message):
        guided(lambda x, t: x, squares, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("denoise", "loss", "error", "message"),
    [
        (lambda x, t: x[:, :4], squares, ShapeError, "must return a tensor of the shape of x"),
        (lambda x, t: x * float("nan"), squares, NumericalError, "the denoiser gave NaN"),
        (lambda x, t: x, lambda x0: x0.sum(), ShapeError, "one number for each of the 2 samples"),
        (lambda x, t: x, lambda x0: squares(x0.detach()), ConfigError, "has no gradient"),
        (lambda x, t: x, lambda x0: squares(x0) / 0, NumericalError, "gave NaN or infinity"),
    ],
)
def test_a_wrong_denoiser_or_loss_is_named(
    denoise: object, loss: object, error: type[Exception], message: str
) -> None:
    x, t = torch.randn(2, 8, dtype=torch.float64), torch.full((2,), 0.5)
    with pytest.raises(error, match=message):
        guided(denoise, loss, 1.0, "flow")(x, t)  # type: ignore[arg-type]


def test_levels_that_contradict_the_kind_are_refused() -> None:
    x, t = torch.randn(2, 8), torch.full((2,), 0.5)
    levels = {"alphas": lambda t: 0.5, "sigmas": lambda t: 0.5}
    with pytest.raises(ConfigError, match=r"'v' needs a\^2 \+ s\^2 = 1, got 0.5"):
        guided(lambda x, t: x, squares, 1.0, "v", **levels)(x, t)  # type: ignore[arg-type]
    bad = {"alphas": lambda t: torch.ones(3), "sigmas": lambda t: 0.5}
    with pytest.raises(ShapeError, match="one for each of the 2 samples"):
        guided(lambda x, t: x, squares, 1.0, "eps", **bad)(x, t)  # type: ignore[arg-type]


def test_a_weighted_loss_lets_its_parts_begin_again() -> None:
    class Counting:
        calls = 0

        def __call__(self, images: Tensor) -> Tensor:
            self.calls += 1
            return images.flatten(1).sum(dim=1)

        def restart(self) -> None:
            self.calls = 0

    part = Counting()
    loss = WeightedLoss([(part, 2.0), (squares, 1.0)])  # `squares` has nothing to restart
    loss(torch.ones(2, 8))
    assert part.calls == 1
    loss.restart()
    assert part.calls == 0


def test_a_clip_loss_of_inference_mode_has_a_gradient_outside() -> None:
    model = clip()  # its weights are no tensors of inference mode
    with torch.inference_mode():
        loss = ClipLoss(model, "a red fox", cutouts=1)
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(images).sum(), images)
    assert slope.abs().max() > 0


def test_the_seed_of_a_clip_loss_changes_its_cutouts() -> None:
    images = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    found = {
        float(ClipLoss(clip(), "a red fox", cutouts=1, seed=seed)(images)) for seed in range(5)
    }
    assert len(found) == 5
