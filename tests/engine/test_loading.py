"""`load`: any layout, device, precision and size; weights shared with the file, never written."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import ecliptic
from ecliptic.checkpoints import Layout, Located, read
from ecliptic.engine import Clip, loading
from ecliptic.errors import ConfigError, UnknownModelError
from ecliptic.inputs import ImageSpec, Preprocess
from ecliptic.model import resize_positions
from tests import tiny
from tests.engine.models import draw, reload, save

TEXTS = ["a", "two dogs", "a photo of a cat"]


def check_same(one: Clip, other: Clip, least: float = 1 - 1e-6) -> None:
    """Both give the same vectors, up to a cosine."""
    images = [draw(0), draw(1)]
    text = F.cosine_similarity(one.encode_text(TEXTS), other.encode_text(TEXTS))
    image = F.cosine_similarity(one.encode_image(images), other.encode_image(images))
    assert min(text.min(), image.min()) > least


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used: .*; try 'cpu' or 'auto'"),
        (
            {"device": "gpu"},
            "^no device is called 'gpu'; use 'cpu', 'cuda', 'cuda:1', 'mps' or 'au",
        ),
        ({"device": "cuda:x"}, "no device is called 'cuda:x'"),
        ({"device": None}, "no device is called None"),
        ({"precision": "fp4"}, "precision must be one of .*, int8, fp8, got 'fp4'"),
        (
            {"precision": "fp8"},
            "runs on NVIDIA GPUs since compute capability 8.9 .* not on cpu; use",
        ),
    ],
)
def test_devices_and_precisions_are_checked_before_anything_is_fetched(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ecliptic.load("no/such-model", **options)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(UnknownModelError, match="such-model"):
        ecliptic.load("no/such-model")


def test_mini_is_the_embedded_model_beside_a_folder_of_that_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MINI", path)
    monkeypatch.chdir(tmp_path)
    embedded = ecliptic.load()
    assert embedded.card.name == "tiny-vit"
    with pytest.raises(UnknownModelError):
        ecliptic.load("./mini")
    save(replace(tiny.checkpoint("text"), name="theirs"), tmp_path / "mini")
    assert ecliptic.load().card.space == ecliptic.load("mini").card.space == embedded.card.space
    assert ecliptic.load("./mini").card.name == ecliptic.load(Path("mini")).card.name == "theirs"


def test_what_chose_nothing_is_noted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "MINI", path)
    for source in ("mini", path, str(path)):
        notes = ecliptic.load(source, part="clip_g", revision="v2").card.notes
        assert notes == (
            "part='clip_g' was not used: this is not a diffusion checkpoint",
            "revision='v2' was not used: this is not a repository of the hub",
        )
        assert ecliptic.load(source).card.notes == ()


def test_what_the_hub_gave_had_its_revision(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "locate", lambda *_, **__: Located(path, None, "org/name"))
    assert ecliptic.load("hf:org/name", revision="v2").card.notes == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preprocess": "robsut"}, "mode must be 'reference' or 'robust', not 'robsut'"),
        ({"preprocess": Preprocess(ImageSpec(size=64))}, r"takes 32; .*image_size=64"),
        ({"image_size": 50}, "leaves 2 pixels over"),
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"image_size": -32}, "image_size must be at least 1, got -32"),
        ({"heads": 3}, "3 heads"),
    ],
)
def test_what_contradicts_the_model_is_refused(
    path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        ecliptic.load(path, **options)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16")])
@pytest.mark.parametrize("kind", ["vit", "resnet", "basic"])
def test_half_precision_is_near(kind: str, precision: Any, dtype: str, tmp_path: Path) -> None:
    path = save(tiny.checkpoint(kind), tmp_path / kind)
    half, full = ecliptic.load(path, precision=precision), ecliptic.load(path)
    assert next(half.model.image_tower.parameters()).dtype == getattr(torch, dtype)
    assert half.model.logit_scale.dtype == torch.float32
    assert half.encode_text("a").dtype == half.encode_image(draw()).dtype == torch.float32
    check_same(half, full, 0.999)
    assert full.card.precision == "fp32"
    assert half.card.precision == precision


def test_int8_may_be_spelled_as_torch_does() -> None:
    clip = ecliptic.load("mini", precision=torch.int8, min_cosine=0.9)
    assert clip.card.precision == "int8"
    with torch.no_grad():
        clip.model.text_tower.blocks[0].mlp.up.weight.mul_(2)  # type: ignore[union-attr, operator]
    assert "fp32 on cpu" in repr(clip)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        (torch.float16, "fp16"),
        (torch.bfloat16, "bf16"),
        (torch.float32, "fp32"),
        ("float16", "fp16"),
        ("half", "fp16"),
        ("bfloat16", "bf16"),
        ("float32", "fp32"),
    ],
)
def test_precisions_may_be_spelled_as_torch_does(path: Path, spelling: Any, name: str) -> None:
    assert ecliptic.load(path, precision=spelling).card.precision == name
    with pytest.raises(ConfigError, match="auto, fp32, bf16, fp16, int8, fp8, got 'float64'"):
        ecliptic.load(path, precision=torch.float64)


def test_weights_stored_in_half_are_computed_in_full(tmp_path: Path) -> None:
    clip = reload(tiny.checkpoint("vit", dtype=torch.float16), tmp_path / "half")
    assert {t.dtype for t in clip.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("kind", "size"), [("vit", 64), ("vit", 16), ("resnet", 96), ("basic", 96)]
)
def test_another_size_interpolates_the_positions(kind: str, size: int, tmp_path: Path) -> None:
    path = save(tiny.checkpoint(kind), tmp_path / kind)
    clip, weights = ecliptic.load(path, image_size=size), tiny.checkpoint(kind).weights
    name = "image.positions" if kind == "vit" else "image.pool.positions"
    assert clip.card.config.image
    wanted = resize_positions(weights[name], clip.card.config.image.grid)
    assert torch.equal(clip.model.state_dict()[name], wanted)
    assert clip.preprocess(draw()).shape == (3, size, size)
    assert clip.card.image_spec
    assert clip.card.image_spec.size == size
    assert "interpolated" in clip.card.notes[-1]
    assert clip.encode_image(draw()).shape == (1, 32)
    clip.save(tmp_path / "resized")
    check_same(ecliptic.load(tmp_path / "resized"), clip)


def test_the_trained_size_changes_nothing(path: Path, clip: Clip) -> None:
    same = ecliptic.load(path, image_size=32)
    assert same.card.notes == clip.card.notes
    assert same.card.space == clip.card.space


def test_a_text_encoder_has_no_size(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no image side"):
        reload(tiny.checkpoint("text"), tmp_path / "text", image_size=64)


def test_a_given_activation_is_used(path: Path, clip: Clip) -> None:
    other = ecliptic.load(path, activation="gelu")
    assert other.card.config.text
    assert other.card.config.text.activation == "gelu"
    assert not torch.allclose(other.encode_text("a"), clip.encode_text("a"), atol=1e-4)


def test_pixels_are_chosen_beside_the_preprocessing(path: Path) -> None:
    for name in ("close", "fast"):
        for mode in ("reference", "robust"):
            clip = ecliptic.load(path, preprocess=mode, pixels=name)  # type: ignore[arg-type]
            assert (clip.preprocessor.mode, clip.preprocessor.pixels) == (mode, name)
            assert (clip.card.preprocess["pixels"], clip.card.preprocess["preprocess"]) == (
                name,
                mode,
            )
    assert ecliptic.load(path).preprocessor.pixels == "exact"
    own = Preprocess(ImageSpec(size=32), pixels="fast")
    assert ecliptic.load(path, preprocess=own).preprocessor.pixels == "fast"
    with pytest.raises(ConfigError, match=r"pixels='close', but .* makes 'fast' pixels; leave"):
        ecliptic.load(path, preprocess=own, pixels="close")
    with pytest.raises(ConfigError, match="pixels must be 'exact', 'close' or 'fast'"):
        ecliptic.load(path, pixels="exactly")  # type: ignore[arg-type]


def test_a_preprocess_of_ones_own_is_used_said_and_saved(
    path: Path, clip: Clip, tmp_path: Path
) -> None:
    own = Preprocess(ImageSpec(size=32, resize="squash"))
    with pytest.warns(UserWarning, match="the vectors will differ") as seen:
        other = ecliptic.load(path, preprocess=own)
    assert seen[0].filename == __file__
    assert other.card.image_spec == own.spec
    wide = draw(0, 80, 36)
    assert not torch.allclose(other.preprocess(wide), clip.preprocess(wide))
    other.save(tmp_path / "own")
    again = ecliptic.load(tmp_path / "own")
    assert again.card.space == other.card.space != clip.card.space
    assert torch.equal(again.preprocess(wide), other.preprocess(wide))


@pytest.mark.parametrize("layout", ["ecliptic", "openai", "open_clip", "transformers"])
def test_a_saved_model_is_the_same_model(clip: Clip, layout: Layout, tmp_path: Path) -> None:
    out = tmp_path / ("model.pt" if layout == "openai" else "model")
    clip.save(out, layout)
    again = ecliptic.load(out)
    assert again.card.space == clip.card.space
    check_same(again, clip)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_unchanged_weights_keep_the_dtype_they_had_on_disk(precision: Any, tmp_path: Path) -> None:
    path = save(tiny.checkpoint("vit", dtype=torch.float16), tmp_path / "half")
    clip = ecliptic.load(path, precision=precision)
    with torch.no_grad():
        clip.model.image_tower.projection += 1
    clip.save(tmp_path / "out")
    stored, found = read(path).weights, dict(read(tmp_path / "out").weights)
    assert found.keys() == stored.keys()
    assert torch.equal(found.pop("image.projection"), clip.model.image_tower.projection.detach())
    for name, tensor in found.items():
        assert tensor.dtype == stored[name].dtype == torch.float16
        assert torch.equal(tensor, stored[name])


def test_one_tower_is_saved_without_a_temperature(tmp_path: Path) -> None:
    clip = reload(tiny.checkpoint("text"), tmp_path / "text")
    clip.save(tmp_path / "out")
    again = ecliptic.load(tmp_path / "out")
    assert again.card.space == clip.card.space
    torch.testing.assert_close(again.encode_text("a"), clip.encode_text("a"))


def test_weights_are_the_files_own_memory(clip: Clip) -> None:
    """Loading copies nothing in fp32: the towers compute on the mapped file."""
    state = clip.model.state_dict()
    shared = [t.data_ptr() == state[name].data_ptr() for name, t in clip.card.weights.items()]
    assert sum(shared) >= len(shared) - 1  # the temperature may be copied


def test_training_in_place_never_writes_into_the_file(path: Path) -> None:
    before = (path / "model.safetensors").read_bytes()
    clip, other = ecliptic.load(path), ecliptic.load(path)
    wanted = other.encode_text(TEXTS)
    optimiser = torch.optim.SGD(clip.model.parameters(), lr=0.1)
    pixels = torch.stack([clip.preprocess(draw(i)) for i in range(3)])
    clip.model(pixels, clip.tokenize(TEXTS)).diagonal().sum().backward()
    optimiser.step()
    assert not torch.allclose(clip.encode_text(TEXTS), wanted, atol=1e-4)
    assert torch.equal(other.encode_text(TEXTS), wanted)
    assert (path / "model.safetensors").read_bytes() == before
    clip.save(path.parent / "trained")
    trained = ecliptic.load(path.parent / "trained")
    assert trained.card.space != other.card.space
    torch.testing.assert_close(trained.encode_text(TEXTS), clip.encode_text(TEXTS))


def test_every_weight_of_the_model_gets_a_gradient(path: Path) -> None:
    """Also after encoding, which itself needs none."""
    clip = ecliptic.load(path)
    clip.encode_text(TEXTS)
    clip.encode_image(draw())
    pixels = clip.preprocess(draw())[None].requires_grad_()
    clip.model(pixels, clip.tokenize(TEXTS)).square().sum().backward()
    for name, tensor in [("pixels", pixels), *clip.model.named_parameters()]:
        assert tensor.grad is not None, name
        assert torch.isfinite(tensor.grad).all(), name
    assert pixels.grad is not None
    assert pixels.grad.abs().max() > 0


def test_loading_inside_inference_mode_works(path: Path, clip: Clip, tmp_path: Path) -> None:
    with torch.inference_mode():
        inside = ecliptic.load(path, cache=tmp_path / "cache")
        vectors = inside.encode_text(["a cat", "a dog"])
        again = inside.encode_text(["a cat", "a dog"])
    torch.testing.assert_close(vectors, clip.encode_text(["a cat", "a dog"]))
    assert torch.equal(vectors, again)
