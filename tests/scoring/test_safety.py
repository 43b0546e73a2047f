"""The rules of released safety checkers, against the modules that define them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ecliptic.errors import NumericalError, ShapeError
from ecliptic.scoring import (
    IF_THRESHOLD,
    is_above,
    layer_scores,
    linear_scores,
    safety_scores,
)
from tests import peers

E, CONCEPTS, SPECIAL = 24, 17, 3


class Given(nn.Module):
    """In place of the image tower: the vectors themselves."""

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return vectors, vectors


def checker(seed: int) -> nn.Module:
    """diffusers' module with random concepts, whose thresholds some vectors pass."""
    peers.diffusers()
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    tiny = {"hidden_size": E, "num_hidden_layers": 1, "num_attention_heads": 1}
    small = {**tiny, "image_size": 8, "patch_size": 8, "intermediate_size": 8}
    config = CLIPConfig(projection_dim=E, vision_config=small, text_config=tiny)
    module = StableDiffusionSafetyChecker(config)
    generator = torch.Generator().manual_seed(seed)
    for name, shape in (("concept_embeds", (CONCEPTS, E)), ("special_care_embeds", (SPECIAL, E))):
        setattr(module, name, nn.Parameter(torch.randn(shape, generator=generator)))
        limits = 0.3 + 0.25 * torch.rand(shape[0], generator=generator)
        setattr(module, f"{name}_weights", nn.Parameter(limits))
    module.vision_model, module.visual_projection = Given(), nn.Identity()
    return module


def ours(module: nn.Module, vectors: Tensor) -> list[Tensor]:
    found = safety_scores(
        vectors,
        module.concept_embeds,
        module.concept_embeds_weights,
        module.special_care_embeds,
        module.special_care_embeds_weights,
    )
    return [found.flagged, found.special, found.concepts]


def theirs(module: nn.Module, vectors: Tensor) -> list[bool]:
    return module(vectors, [np.zeros(1) for _ in vectors])[1]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 20))]
)
def test_vectors_have_the_verdict_of_diffusers(seed: int) -> None:
    """500 vectors for each of 20 checkers, 10,000 together."""
    module = checker(seed)
    vectors = torch.randn(500, E, generator=torch.Generator().manual_seed(100 + seed))
    flagged, special, _ = ours(module, vectors)
    assert flagged.tolist() == theirs(module, vectors)
    assert 0.1 < float(flagged.float().mean()) < 0.9, "else the test tells nothing"
    assert bool((special > 0).any())


def place(concepts: Tensor, limits: Tensor, gaps: list[float]) -> Tensor:
    """Vectors whose cosine with concept i of orthogonal ones is its threshold plus gap i."""
    cosines = limits.double() + torch.tensor(gaps, dtype=torch.float64)
    rest = (1 - cosines.square()).clamp(min=0).sqrt()
    away = torch.zeros(len(gaps), concepts.shape[1], dtype=torch.float64)
    away[:, -1] = 1
    return (cosines[:, None] * concepts.double() + rest[:, None] * away).float()


def orthogonal(module: nn.Module) -> None:
    """Concepts along the axes, so that a vector touches one of them alone."""
    axes = torch.eye(E)
    module.concept_embeds = nn.Parameter(axes[:CONCEPTS])
    module.special_care_embeds = nn.Parameter(axes[CONCEPTS : CONCEPTS + SPECIAL])


def test_a_threshold_is_passed_from_half_a_thousandth_above_it() -> None:
    module = checker(0)
    orthogonal(module)
    edges = (-0.001, -0.0006, 0.0, 0.0004, 0.0006, 0.001)
    for gap in edges:
        vectors = place(module.concept_embeds, module.concept_embeds_weights, [gap] * CONCEPTS)
        flagged = ours(module, vectors)[0]
        assert flagged.tolist() == theirs(module, vectors) == [gap > 0.0005] * CONCEPTS, gap


def test_special_care_lowers_what_follows_and_nothing_before() -> None:
    """A vector just below special concept 1 and above 2: the order of the two decides."""
    module = checker(1)
    orthogonal(module)
    limits = module.special_care_embeds_weights.data
    limits[:] = torch.tensor([0.30, 0.31, 0.32])
    concept = module.concept_embeds_weights.data
    concept[:] = 0.9
    concept[0] = 0.4
    vectors = torch.zeros(3, E)
    first, last = CONCEPTS, CONCEPTS + 2
    vectors[0, [first, last]] = torch.tensor([0.305, 0.315])  # the first makes the last pass
    vectors[1, [first, last]] = torch.tensor([0.295, 0.325])  # the last changes nothing before
    vectors[2, [first, last]] = torch.tensor([0.295, 0.315])  # neither
    vectors[:, 0] = 0.395  # passes only where 0.01 is added
    vectors[:, -1] = (1 - vectors.square().sum(dim=1)).sqrt()
    flagged, special, _ = ours(module, vectors)
    assert (special > 0).tolist() == [[True, False, True], [False, False, True], [False] * 3]
    assert flagged.tolist() == theirs(module, vectors) == [True, True, False]


def test_scores_are_rounded_as_numpy_rounds_single_numbers() -> None:
    module = checker(2)
    vectors = torch.randn(100, E, generator=torch.Generator().manual_seed(7))
    cosines = nn.functional.normalize(vectors) @ nn.functional.normalize(module.concept_embeds).T
    _, special, concepts = ours(module, vectors)
    for row, some in enumerate(cosines.detach().numpy()):
        raised = 0.01 if bool((special[row] > 0).any()) else 0.0
        for value, limit, score in zip(
            some, module.concept_embeds_weights.tolist(), concepts[row].tolist(), strict=True
        ):
            assert score == float(round(value - limit + raised, 3))


def test_nan_is_flagged_and_zero_is_a_number() -> None:
    module = checker(3)
    vectors = torch.ones(4, E)
    vectors[0, 3], vectors[1, 3], vectors[2] = float("nan"), float("inf"), 0.0
    flagged, special, concepts = ours(module, vectors)
    assert flagged[:2].all()
    assert bool(concepts[2:].isfinite().all())
    assert bool(special[2:].isfinite().all())
    assert not flagged[2], "cosines of 0 are below every threshold, as in diffusers"
    assert theirs(module, vectors)[:2] == [False, False], "what the original says of NaN"


def test_damaged_thresholds_are_refused() -> None:
    module = checker(4)
    module.concept_embeds_weights.data[2] = float("nan")
    with pytest.raises(NumericalError, match="thresholds of the concepts must be finite"):
        ours(module, torch.ones(1, E))
    with pytest.raises(ShapeError, match="17 concepts need as many thresholds"):
        safety_scores(
            torch.ones(1, E),
            module.concept_embeds,
            torch.ones(3),
            module.special_care_embeds,
            module.special_care_embeds_weights,
        )


def test_heads_of_deepfloyd_are_as_in_diffusers() -> None:
    peers.diffusers()
    from diffusers.pipelines.deepfloyd_if.safety_checker import IFSafetyChecker
    from transformers import CLIPConfig

    tiny = {"hidden_size": E, "num_hidden_layers": 1, "num_attention_heads": 1}
    small = {**tiny, "image_size": 8, "patch_size": 8, "intermediate_size": 8}
    config = CLIPConfig(vision_config={**small, "projection_dim": E}, text_config=tiny)
    module = IFSafetyChecker(config)
    module.vision_model = Given()
    for head in (module.p_head, module.w_head):
        head.weight.data = torch.randn(1, E, generator=torch.Generator().manual_seed(1))
    vectors = torch.randn(500, E, generator=torch.Generator().manual_seed(0))
    _, nsfw, watermark = module(vectors, [np.zeros(1) for _ in vectors])
    for head, expected in ((module.p_head, nsfw), (module.w_head, watermark)):
        values = linear_scores(vectors, head.weight, head.bias)
        assert is_above(values, IF_THRESHOLD).tolist() == expected
        assert 20 < sum(expected) < 480


def test_nothing_that_is_nan_is_below_a_threshold() -> None:
    values = torch.tensor([float("nan"), 0.4, 0.5, 0.6])
    assert is_above(values, 0.5).tolist() == [True, False, False, True]


def test_layers_are_those_of_torch() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 6), nn.Linear(6, 4), nn.Linear(4, 1)]
    x = torch.randn(9, 8)
    expected = layers[2](layers[1](layers[0](x).relu()))[:, 0]
    pairs = [(one.weight, one.bias) for one in layers]
    torch.testing.assert_close(layer_scores(x, pairs, [True, False, False]), expected)
    with pytest.raises(ShapeError, match="takes vectors of 8 values"):
        layer_scores(torch.ones(2, 7), pairs, [True, False, False])
    with pytest.raises(ShapeError, match="must have one output, it has 4"):
        layer_scores(x, pairs[:2], [True, False])
