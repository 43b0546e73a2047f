"""A model loaded from an int8 file keeps the codes of its int8 layers, and does all as before."""

import copy
import multiprocessing
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import ecliptic
from ecliptic.adapters.lora import read_lora
from ecliptic.adapters.lora_stack import LoraStack
from ecliptic.checkpoints import Checkpoint, Layout, read, write
from ecliptic.engine import Clip, find_quantisation
from ecliptic.errors import UnsupportedLayoutError
from ecliptic.model import CodedWeight, Quantisation, ordinary
from tests import tiny
from tests.adapters.files import Sizes, kohya, pairs, save
from tests.engine.models import draw, reload

TEXTS = ["a", "two dogs"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coded")
    clip = reload(tiny.checkpoint(), folder / "floats")
    images, texts = [draw(n) for n in range(24)], [f"a photo of {n} cats" for n in range(30)]
    clip.quantised(find_quantisation(clip, 0.999, images, texts)).save(folder / "int8")
    return folder / "int8"


@pytest.fixture
def clip(stored: Path) -> Clip:
    return ecliptic.load(stored)


def int8_of(clip: Clip) -> Quantisation:
    assert clip.runtime.quantisation
    return clip.runtime.quantisation


def coded(weights: Any) -> set[str]:
    return {name for name, one in weights if isinstance(one, CodedWeight) and one.coded}


def int8_weights(stored: Path) -> set[str]:
    int8 = read(stored).quantisation
    assert int8
    return {f"{name}.weight" for name in int8.linears}


def in_floats(checkpoint: Checkpoint) -> Checkpoint:
    weights = {name: ordinary(one) for name, one in checkpoint.weights.items()}
    return replace(checkpoint, weights=weights)


def test_encoding_and_describing_keep_the_codes_alone(clip: Clip, stored: Path) -> None:
    wanted = int8_weights(stored)
    assert len(wanted) > 10
    assert coded(clip.model.named_parameters()) == wanted
    clip.encode_image([draw(0)])
    clip.encode_text(TEXTS)
    for layer in (-1, 0):
        clip.image_encoder(layer)
        clip.runtime.text_outputs(clip.tokenize(TEXTS), layer=layer)
    assert clip.card.space
    assert clip.card.exact
    clip.runtime.describe()
    assert coded(clip.model.named_parameters()) == wanted
    assert coded(clip.card.weights.items()) == wanted


def test_the_fingerprints_are_those_of_the_float_values(clip: Clip) -> None:
    found = clip.card.quantisation
    assert found
    near = replace(found, space=None)
    for int8 in (found, near, None):
        card = replace(clip.card, quantisation=int8)
        floats = replace(card, weights={n: ordinary(one) for n, one in card.weights.items()})
        assert (card.space, card.exact) == (floats.space, floats.exact)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_another_precision_has_ordinary_weights(stored: Path, precision: str) -> None:
    clip = ecliptic.load(stored, precision=precision)  # type: ignore[arg-type]
    assert {type(one) for one in clip.model.parameters()} == {nn.Parameter}
    assert clip.runtime.precision == precision
    if precision == "fp32":
        tokens = clip.tokenize(TEXTS)
        wanted = tiny.model(in_floats(read(stored))).encode_text(tokens)
        torch.testing.assert_close(clip.model.encode_text(tokens), wanted, rtol=0, atol=0)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in tree(folder)}


def tree(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("layout", get_args(Layout))
def test_every_layout_is_written_as_from_floats(
    clip: Clip, stored: Path, tmp_path: Path, layout: Layout
) -> None:
    ours, theirs = tmp_path / "ours" / "model", tmp_path / "theirs" / "model"
    for folder in (ours.parent, theirs.parent):
        folder.mkdir()
    if layout == "openai":
        ours, theirs = ours.with_suffix(".pt"), theirs.with_suffix(".pt")
    try:
        write(in_floats(read(stored)), theirs, layout)
    except UnsupportedLayoutError as error:  # the layout cannot hold the model, coded or not
        with pytest.raises(UnsupportedLayoutError, match=re.escape(str(error))):
            clip.save(ours, layout)
        return
    clip.save(ours, layout)
    assert files_of(ours.parent) == files_of(theirs.parent)
    assert coded(clip.model.named_parameters()) == int8_weights(stored)
    if layout == "ecliptic":
        assert files_of(ours) == files_of(stored)


COPIES = [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
def test_copies_of_a_clip_are_coded_and_int8(clip: Clip, stored: Path, copied: Any) -> None:
    again = copied(clip)
    assert coded(again.model.named_parameters()) == int8_weights(stored)
    assert coded(again.card.weights.items()) == int8_weights(stored)
    assert again.runtime.precision == copied(clip.runtime).precision == "int8"
    assert torch.equal(again.encode_text(TEXTS), clip.encode_text(TEXTS))
    assert again.card.exact == clip.card.exact
    for name, layer in int8_of(again).linears.items():  # one of each in memory
        weight = again.model.get_parameter(f"{name}.weight")
        assert weight._shared.layer is layer  # type: ignore[attr-defined]


def test_a_pickled_clip_has_its_int8_layers_once(clip: Clip, stored: Path) -> None:
    size = sum(path.stat().st_size for path in tree(stored))
    floats = sum(one.nbytes for one in clip.model.parameters() if not isinstance(one, CodedWeight))
    assert len(pickle.dumps(clip)) < size + floats + 200_000  # kept in float32: in both of two


def encode(clip: Clip) -> tuple[str, Tensor]:
    return clip.runtime.precision, clip.encode_text(TEXTS)


def test_a_process_that_is_spawned_can_use_it(clip: Clip) -> None:
    wanted = clip.encode_text(TEXTS)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        precision, vectors = pool.apply(encode, (clip,))
    assert precision == "int8"
    torch.testing.assert_close(vectors, wanted, rtol=0, atol=1e-6)
    assert clip.runtime.precision == "int8"  # here too, where the other weights have moved
    torch.testing.assert_close(clip.encode_text(TEXTS), wanted, rtol=0, atol=1e-6)


def test_a_saved_state_needs_no_ecliptic(clip: Clip, stored: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save(clip.model.state_dict(), path)
    assert b"ecliptic" not in path.read_bytes()
    again = torch.load(path, weights_only=True)
    for name, weight in in_floats(read(stored)).weights.items():
        assert torch.equal(again[name], weight)


def losses(clip: Clip, checkpoint: Checkpoint) -> Tensor:
    pixels, tokens = tiny.pixels(checkpoint), tiny.tokens(checkpoint)
    return clip.model(pixels, tokens).square().mean()


def test_gradients_are_those_of_the_float_values(clip: Clip, stored: Path) -> None:
    plain = ecliptic.load(stored, precision="fp32")
    for one in (clip, plain):
        losses(one, tiny.checkpoint()).backward()
    for ours, theirs in zip(clip.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert coded(clip.model.named_parameters()) == int8_weights(stored)
    assert clip.runtime.precision == "int8"


@pytest.mark.parametrize("how", [{}, {"fused": True}, {"foreach": True}], ids=str)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_training_makes_it_float32(
    clip: Clip, stored: Path, tmp_path: Path, kind: Any, how: dict[str, bool]
) -> None:
    plain = ecliptic.load(stored, precision="fp32")
    loaded = clip.card.space
    for one in (clip, plain):
        optimiser = kind(one.model.parameters(), lr=1e-3, **how)
        for _ in range(2):
            losses(one, tiny.checkpoint()).backward()
            optimiser.step()
    assert clip.runtime.precision == clip.card.precision == "fp32"
    close = {"rtol": 1e-4, "atol": 1e-4}
    for ours, theirs in zip(clip.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(ordinary(ours.detach()), theirs.detach(), **close)
    assert clip.card.space != loaded
    clip.save(tmp_path / "trained")
    again = ecliptic.load(tmp_path / "trained")
    assert again.card.space == clip.card.space
    assert again.runtime.precision == "fp32"


def test_a_change_of_one_layer_is_float32_for_its_tower(clip: Clip, stored: Path) -> None:
    """The other layers of the tower are computed from the values of their codes."""
    plain = ecliptic.load(stored, precision="fp32")
    for one in (clip, plain):
        with torch.no_grad():
            one.model.get_parameter("text.blocks.0.mlp.up.weight").mul_(1.5)
    assert clip.runtime.precision == "fp32"
    close = {"rtol": 0, "atol": 1e-5}
    for texts in (TEXTS, [f"a photo of {n} cats" for n in range(100)]):  # plain, then packed
        torch.testing.assert_close(clip.encode_text(texts), plain.encode_text(texts), **close)
    assert len(coded(clip.model.named_parameters())) == len(int8_weights(stored)) - 1


def test_loras_are_added_and_removed(clip: Clip, stored: Path, tmp_path: Path) -> None:
    plain = ecliptic.load(stored, precision="fp32")
    made = kohya(pairs(Sizes(width=64, mlp=256, depth=3)))
    lora = read_lora(save(tmp_path / "x.safetensors", made))
    stacks = [LoraStack(one.model.text_tower) for one in (clip, plain)]
    for stack in stacks:
        stack.add("x", lora)
    assert clip.runtime.precision == "fp32"
    tokens = clip.tokenize(TEXTS)
    assert torch.equal(clip.model.encode_text(tokens), plain.model.encode_text(tokens))
    stacks[0].clear()
    assert coded(clip.model.named_parameters()) == int8_weights(stored)
    assert clip.runtime.precision == "int8"


def test_a_model_moved_to_another_precision_is_ordinary(clip: Clip, stored: Path) -> None:
    clip.model.to(torch.bfloat16)
    assert {type(one) for one in clip.model.parameters()} == {nn.Parameter}
    assert clip.runtime.precision == "bf16"
    plain = ecliptic.load(stored, precision="bf16")
    cosines = (clip.encode_text(TEXTS) * plain.encode_text(TEXTS)).sum(-1)
    assert float(cosines.min()) > 0.999


def test_state_can_be_loaded_into_it_and_from_it(clip: Clip, stored: Path) -> None:
    other = copy.deepcopy(tiny.model(tiny.checkpoint()))
    other.load_state_dict(clip.model.state_dict())
    tokens = clip.tokenize(TEXTS)
    assert torch.equal(other.encode_text(tokens), clip.model.encode_text(tokens))
    clip.model.load_state_dict(dict(tiny.checkpoint().weights))
    assert clip.runtime.precision == "fp32"
    assert torch.equal(clip.card.weights["logit_scale"], tiny.checkpoint().weights["logit_scale"])


def test_one_made_int8_in_memory_keeps_the_weights_of_its_file(
    stored: Path, tmp_path: Path
) -> None:
    int8 = read(stored).quantisation
    assert int8
    clip = reload(tiny.checkpoint(), tmp_path / "floats").quantised(int8)
    assert clip.runtime.precision == "int8"
    assert not coded(clip.model.named_parameters())
    for name, weight in clip.model.named_parameters():
        assert torch.equal(weight, tiny.checkpoint().weights[name])
