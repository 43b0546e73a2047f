"""Released aesthetic heads: the real files give the published numbers, others are told apart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ecliptic.checkpoints import catalog
from ecliptic.engine import Card, Vectors
from ecliptic.errors import (
    AmbiguousCheckpointError,
    ConfigError,
    CorruptFileError,
    NumericalError,
    ShapeError,
    SpaceMismatchError,
    UnknownModelError,
    UnsafeFileError,
    UnsupportedLayoutError,
)
from ecliptic.storage import write_safetensors
from ecliptic.tasks import AestheticHead

WIDTHS = (768, 1024, 128, 64, 16, 1)
PLACES = (0, 2, 4, 6, 7)
V2 = "improved_aesthetic/sac+logos+ava1-l14-linearMSE.pth"
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a state dict with a prefix, as PyTorch or safetensors."""

    def write(state: dict[str, Tensor], prefix: str = "", name: str = "head.pth") -> Path:
        named = {prefix + key: tensor.clone() for key, tensor in state.items()}
        if name.endswith(".safetensors"):
            write_safetensors(tmp_path / name, named, {"format": "pt"})
        else:
            torch.save(named, tmp_path / name)
        return tmp_path / name

    return write


def layers(places: tuple[int, ...] = PLACES, widths: tuple[int, ...] = WIDTHS) -> dict[str, Tensor]:
    state = {}
    for place, before, after in zip(places, widths, widths[1:], strict=False):
        linear = nn.Linear(before, after)
        state |= {f"{place}.weight": linear.weight.detach(), f"{place}.bias": linear.bias.detach()}
    return state


def card_of(name: str, config_of: str | None = None) -> Card:
    """The card of published weights, without the weights."""
    config = catalog.architecture(config_of or name)
    return Card(name, "openai", config, None, None, {}, "fp32", "cpu", (), {})


def unit(rows: int, width: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, width), dim=-1)


# --- real files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "model", "norm", "bias"),
    [
        ("laion_aesthetic/sa_0_4_vit_l_14_linear.pth", "ViT-L-14/openai", 28.44, 3.529),
        ("laion_aesthetic/sa_0_4_vit_b_32_linear.pth", "ViT-B-32/openai", 27.57, 3.421),
        ("laion_aesthetic/sa_0_4_vit_b_16_linear.pth", "ViT-B-16/openai", 28.20, 3.151),
        (V2, "ViT-L-14/openai", 18.00, 5.236646),
    ],
)
def test_real_heads_are_read_and_know_their_model(
    shared: Path, file: str, model: str, norm: float, bias: float
) -> None:
    head = AestheticHead.load(shared / "artefacts" / file)
    assert head.model == model
    assert float(head.weight.norm()) == pytest.approx(norm, abs=0.005)
    assert head.bias == pytest.approx(bias, abs=5e-4 if file != V2 else 1e-6)
    head.check(card_of(model))
    assert AestheticHead.load(shared / "artefacts" / file, backbone=model).name == head.name


def test_real_photographs_have_their_scores(shared: Path) -> None:
    head = AestheticHead.load(shared / "artefacts/laion_aesthetic/sa_0_4_vit_b_32_linear.pth")
    stored = np.load(shared / "artefacts/real_vitb32/two_images.npz")
    vectors = next(stored[k] for k in stored.files if stored[k].shape == (2, 512))
    scores = head.score(torch.from_numpy(vectors.astype(np.float32)))
    np.testing.assert_allclose(scores, [4.0087, 3.2372], atol=1e-4)


def test_the_folded_layers_are_the_network(shared: Path) -> None:
    path = shared / "artefacts" / V2
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = nn.Sequential(
        nn.Linear(768, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2),
        nn.Linear(128, 64), nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
    )  # fmt: skip
    network.load_state_dict({key.removeprefix("layers."): t for key, t in state.items()})
    x = unit(5, 768)
    wanted = network.double().eval()(x.double())[:, 0]
    head = AestheticHead.load(path)
    torch.testing.assert_close(head.score(x), wanted.detach(), rtol=0, atol=1e-12)
    first = AestheticHead.load(shared / "artefacts/laion_aesthetic/sa_0_4_vit_l_14_linear.pth")
    cosine = torch.nn.functional.cosine_similarity(head.weight, first.weight, dim=0)
    assert float(cosine) == pytest.approx(0.369, abs=5e-4)


def test_a_copy_with_other_names_is_still_known(shared: Path, save: Save) -> None:
    state = torch.load(shared / "artefacts" / V2, map_location="cpu", weights_only=True)
    plain = {key.removeprefix("layers."): tensor for key, tensor in state.items()}
    packed = {f"{PLACES.index(int(key[0]))}{key[1:]}": tensor for key, tensor in plain.items()}
    for copy, prefix in ((plain, ""), (plain, "module.mlp."), (packed, "layers.")):
        for name in ("copy.pth", "copy.safetensors"):
            head = AestheticHead.load(save(copy, prefix, name))
            assert head.name == "aesthetic v2 (sac+logos+ava1)"
            assert head.bias == pytest.approx(5.236646, abs=1e-6)


# --- layouts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "layers.", "state_dict.mlp."])
@pytest.mark.parametrize("places", [PLACES, (0, 1, 2, 3, 4)])
def test_both_numberings_are_read(save: Save, places: tuple[int, ...], prefix: str) -> None:
    state = layers(places)
    head = AestheticHead.load(save(state, prefix), "ViT-L-14/openai")
    x = unit(3, 768)
    y = x.double()
    for place in places:
        y = y @ state[f"{place}.weight"].double().T + state[f"{place}.bias"].double()
    torch.testing.assert_close(head.score(x), y[:, 0], rtol=0, atol=1e-12)
    assert (head.name, head.model, head.embed) == ("head", "ViT-L-14/openai", 768)


@pytest.mark.parametrize("prefix", ["", "linear.", "0."])
def test_one_layer_is_a_linear_head(save: Save, prefix: str) -> None:
    state = {"weight": torch.randn(1, 512), "bias": torch.randn(1)}
    head = AestheticHead.load(save(state, prefix), "ViT-B-16/openai")
    torch.testing.assert_close(head.weight, state["weight"][0].double())
    assert head.bias == pytest.approx(float(state["bias"]))


def test_a_head_with_activations_is_not_folded(save: Save) -> None:
    with pytest.raises(UnsupportedLayoutError, match=r"with ReLU.*use the head without them"):
        AestheticHead.load(save(layers((0, 3, 6, 9, 11)), "layers."), "ViT-L-14/openai")
    with pytest.raises(UnsupportedLayoutError, match="layers 0, 5, but an aesthetic head has"):
        AestheticHead.load(save(layers((0, 5), (768, 8, 1))), "ViT-L-14/openai")


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"proj": torch.ones(3)}, UnsupportedLayoutError, "is no aesthetic head: it has proj"),
        ({"weight": torch.ones(1, 3)}, UnsupportedLayoutError, "a head has weight and bias"),
        ({"weight": torch.ones(2, 3), "bias": torch.ones(2)}, CorruptFileError, "gives one score"),
        ({"weight": torch.ones(1, 3), "bias": torch.ones(2)}, CorruptFileError, "cannot follow"),
        ({"weight": torch.ones(1, 0), "bias": torch.ones(1)}, CorruptFileError, "reads no values"),
        ({"weight": torch.ones(1, 2, 3), "bias": torch.ones(1)}, CorruptFileError, "cannot follow"),
        ({"weight": torch.ones(()), "bias": torch.ones(1)}, CorruptFileError, "cannot follow"),
        ({"weight": torch.full((1, 3), torch.nan), "bias": torch.ones(1)}, CorruptFileError, "NaN"),
        (layers(PLACES, (768, 8, 9, 4, 2, 1)) | {"2.bias": torch.ones(3)}, CorruptFileError,
         r"a layer of \(9, 8\)"),
    ],
)  # fmt: skip
def test_other_files_are_refused(
    save: Save, state: dict[str, Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        AestheticHead.load(save(state), "ViT-L-14/openai")


def test_a_wide_layer_asks_for_no_memory(save: Save) -> None:
    path = save({"weight": torch.ones(1, 400_000), "bias": torch.ones(1)})
    with pytest.raises(ConfigError, match="400000 values, but ViT-L-14/openai has 768"):
        AestheticHead.load(path, "ViT-L-14/openai")


def test_a_weight_of_any_precision_scores() -> None:
    x = unit(3, 512)
    made = AestheticHead(torch.ones(512), 1.0, "ViT-B-32/openai")
    torch.testing.assert_close(made.score(x), x.double().sum(1) + 1)


def test_a_pickle_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1, 512), "bias": Path("x")}, tmp_path / "bad.pth")
    with pytest.raises((UnsafeFileError, UnsupportedLayoutError)):
        AestheticHead.load(tmp_path / "bad.pth", "ViT-B-32/openai")


# --- which model -------------------------------------------------------------------------------


def test_an_unknown_head_needs_the_name_of_its_model(save: Save) -> None:
    path = save({"weight": torch.randn(1, 512), "bias": torch.randn(1)})
    with pytest.raises(AmbiguousCheckpointError, match="512 values, but not of which model; pass"):
        AestheticHead.load(path)
    with pytest.raises(ConfigError, match="512 values, but ViT-L-14/openai has 768"):
        AestheticHead.load(path, "ViT-L-14/openai")
    with pytest.raises(UnknownModelError):
        AestheticHead.load(path, "no such model")


def test_a_known_head_contradicts_another_name(shared: Path) -> None:
    path = shared / "artefacts/laion_aesthetic/sa_0_4_vit_b_32_linear.pth"
    with pytest.raises(ConfigError, match="is a head for ViT-B-32/openai, not ViT-B-16/openai"):
        AestheticHead.load(path, "ViT-B-16/openai")


def head(model: str = "ViT-B-32/openai", embed: int = 512) -> AestheticHead:
    return AestheticHead(torch.randn(embed).double(), 1.0, model, name="h")


@pytest.mark.parametrize(
    ("card", "why"),
    [
        (card_of("ViT-L-14/openai"), "has vectors of 768 values, not 512"),
        (card_of("mine", "ViT-B-16/openai"), r"another image tower \(patch_size 16, not 32\)"),
        (card_of("mine", "ViT-B-32"), "activation gelu, not quick_gelu"),
        (card_of("mine", "RN50/openai"), "has vectors of 1024 values"),
        (card_of("RN101/openai"), "another image tower .a ResNet"),
        (card_of("ViT-B-32/laion400m_e32", "ViT-B-32/openai"), "has other weights .ViT-B-32/laion"),
    ],
)
def test_another_model_is_refused_with_the_reason(card: Card, why: str) -> None:
    with pytest.raises(SpaceMismatchError, match=why):
        head().check(card)


def test_the_same_model_under_another_name_is_taken() -> None:
    for name in ("ViT-B-32/openai", "openai/clip-vit-base-patch32", "ViT-B/32", "my-file"):
        head().check(replace(card_of("ViT-B-32/openai"), name=name))


def test_stored_vectors_are_known_by_the_name_of_their_model() -> None:
    rows = unit(3, 512).numpy()
    stored = Vectors(rows, None, "a" * 64, "b" * 64, "ViT-B-32/openai")
    torch.testing.assert_close(head().score(stored).shape, torch.Size([3]))
    head().score(replace(stored, model="a file"))
    with pytest.raises(SpaceMismatchError, match="but these are of ViT-B-16/openai"):
        head().score(replace(stored, model="ViT-B-16/openai"))


# --- vectors -----------------------------------------------------------------------------------


def test_vectors_that_are_not_of_unit_length_are_refused() -> None:
    x = unit(4, 512)
    x[2] *= 11.5
    with pytest.raises(NumericalError, match=r"vector 2 has length 11\.5.*divide each by its len"):
        head().score(x)
    x[2] = 0
    with pytest.raises(NumericalError, match=r"vector 2 has length 0.*it is all zeros"):
        head().score(x.numpy())
    x[2] = torch.nan
    with pytest.raises(NumericalError, match="vector 2 holds NaN"):
        head().score(x)
    with pytest.raises(ShapeError, match=r"scores \(N, 512\) vectors of ViT-B-32/openai"):
        head().score(unit(4, 768))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounded_unit_vectors_are_of_unit_length(dtype: torch.dtype) -> None:
    x = unit(100, 512)
    wanted = x.double() @ (h := head()).weight + h.bias
    torch.testing.assert_close(h.score(x.to(dtype)), wanted, rtol=0, atol=0.3)
    assert h.score(x[:0]).shape == (0,)
