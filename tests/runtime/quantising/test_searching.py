"""Layers stay in float32 until the bound holds for inputs that were not calibrated on."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import ConfigError
from ecliptic.model import LINEARS, SAME_SPACE, Quantisation, QuantisationReport, TwoTowers
from ecliptic.runtime import Runtime, quantise
from ecliptic.runtime.quantising import searching
from tests import tiny


def make(kind: str = "vit") -> TwoTowers:
    return copy.deepcopy(tiny.model(tiny.checkpoint(kind)))


def inputs(kind: str = "vit", count: int = 60) -> tuple[Tensor, Tensor]:
    made = tiny.checkpoint(kind)
    assert made.config.text
    random = torch.Generator().manual_seed(0)
    tokens = tiny.tokens(made)
    rows = torch.randint(1, 40, (count, tokens.shape[1]), generator=random)
    places = torch.randint(2, tokens.shape[1], (count,), generator=random)
    rows[torch.arange(count), places] = made.config.text.end_of_text
    return tiny.pixels(made, count), rows


@pytest.mark.parametrize("wanted", [0.9, 0.9995, 0.99999])
def test_the_bound_holds_for_the_other_half_of_the_inputs(wanted: float) -> None:
    model, (pixels, tokens) = make(), inputs()
    found = quantise(model, pixels, tokens, wanted)
    runtime, plain = Runtime(model, quantisation=found), Runtime(model)
    for tower, mine, theirs in (
        (found.report.towers[0], runtime.image(pixels[1::2]), plain.image(pixels[1::2])),
        (found.report.towers[1], runtime.text(tokens[1::2]), plain.text(tokens[1::2])),
    ):
        cosines = F.cosine_similarity(mine.double(), theirs.double())
        assert float(cosines.min()) >= wanted
        assert tower.worst == pytest.approx(float(cosines.min()), abs=2e-6)
        assert tower.mean == pytest.approx(float(cosines.mean()), abs=2e-6)
        assert tower.inputs == tower.calibrated_on == 30
        assert 0.5 < tower.recall <= 1
    names = {layer.name for layer in found.report.layers}
    assert len(names) == 4 * (model.config.image.depth + model.config.text.depth)  # type: ignore[union-attr]
    assert found.linears.keys() | set(found.report.kept) == names
    assert bool(found.report.kept) == (wanted > 0.999)


def test_the_worst_layers_are_kept() -> None:
    model, (pixels, tokens) = make(), inputs()
    block: Any = model.image_tower.blocks[0]  # type: ignore[union-attr, index]
    with torch.no_grad():  # one row of hidden numbers that hides all others in their range
        block.mlp.up.weight[0] *= 3e4
        block.mlp.down.weight[:, 0] /= 3e4
    report = quantise(model, pixels, tokens, 0.999).report
    image = [layer for layer in report.layers if layer.name.startswith("image")]
    assert image[0].name == "image.blocks.0.mlp.down"
    assert image[0].kept
    assert [layer.error for layer in image] == sorted((r.error for r in image), reverse=True)
    kept = [layer.kept for layer in image]
    assert kept == sorted(kept, reverse=True)


def test_few_inputs_impossible_bounds_and_other_models_are_refused() -> None:
    model, (pixels, tokens) = make(), inputs()
    with pytest.raises(ConfigError, match="needs 20 inputs of the image tower or more, got 19"):
        quantise(model, pixels[:19], tokens, 0.9)
    with pytest.raises(ConfigError, match="of the text tower or more, got 0"):
        quantise(model, pixels, None, 0.9)
    for wanted in (0.0, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="min_cosine must be above 0 and below 1"):
            quantise(model, pixels, tokens, wanted)
    resnet = make("resnet")
    resnet.text = None
    with pytest.raises(ConfigError, match="no tower of transformer blocks"):
        quantise(resnet, pixels, None, 0.9)


def test_a_resnet_stays_as_it_is() -> None:
    model, (_, tokens) = make("resnet"), inputs("resnet")
    found = quantise(model, None, tokens, 0.9)
    assert [tower.tower for tower in found.report.towers] == ["text"]
    runtime = Runtime(model, quantisation=found)
    assert "the image tower is a ResNet and stays fp32" in runtime.describe()[0].chosen


def test_agreement_of_a_search_leaves_the_query_out() -> None:
    random = torch.Generator().manual_seed(0)
    index = torch.randn(40, 16, generator=random)
    wanted, other = index[:12], torch.randn(12, 16, generator=random)
    assert searching._recall(wanted, wanted, index) == 1
    assert searching._recall(wanted * 3, wanted, index) == 1
    assert searching._recall(other, wanted, index) < 0.5


def test_a_quantisation_tells_its_numbers_and_whether_it_keeps_the_space() -> None:
    model, (pixels, tokens) = make(), inputs()
    found = quantise(model, pixels, tokens, 0.9995)
    assert found.keeps_space
    assert found.report.worst >= SAME_SPACE
    same = Quantisation(dict(reversed(found.linears.items())), found.report)
    assert same.digest() == found.digest()
    fewer = Quantisation(dict(list(found.linears.items())[1:]), found.report)
    assert fewer.digest() != found.digest()
    parts = {t: found.of_block(t, place) for t in ("image", "text") for place in (0, 1)}
    assert any(parts.values())
    assert all(part.keys() <= set(LINEARS) for part in parts.values())
    assert QuantisationReport(0.9, (), ()).worst == 1
