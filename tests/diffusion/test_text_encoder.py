"""diffusers pipelines run on our encoder unchanged, and give the same image as on their own.

`pipelines.py` writes the encoders; both sides read the same folders.
"""

import copy
import json
import re
import sys
from collections.abc import Callable
from functools import cache, partial, partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ecliptic
from ecliptic.diffusion import conditioner, opening, text_encoder
from ecliptic.diffusion.text_encoder import as_text_encoder
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, MissingExtraError, MissingTowerError, ShapeError
from tests import peers
from tests.diffusion import pipelines
from tests.diffusion.pipelines import PARITY, quiet
from tests.runtime.kernels.forced import force

PIXEL = 1e-4  # of values in [0, 1]
PROMPTS = ["a cat", "", "an oil painting of a lighthouse in a storm, dramatic light!"]
FAMILIES = pytest.mark.parametrize("family", ["sd1", "sdxl"])
KINDS = pytest.mark.parametrize("kind", ["l", "g"])


def clip(kind: str) -> Clip:
    return ecliptic.load(pipelines.encoder(kind))


def ids(kind: str) -> Tensor:
    tokenizer = pipelines.tokenizer(kind)
    cut = {"max_length": 77, "truncation": True, "return_tensors": "pt"}
    found: Tensor = tokenizer(PROMPTS, padding="max_length", **cut).input_ids
    return found


def parts(family: str) -> dict[str, Any]:
    """All of a pipeline but its text encoders: a tiny UNet, VAE and scheduler, and tokenizers."""
    library = peers.diffusers()
    scheduler = library.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    made = {"unet": _unet(family), "vae": tiny_vae(4), "scheduler": scheduler}
    made["tokenizer"] = copy.deepcopy(pipelines.tokenizer("l"))  # words are added to it
    if family == "sdxl":
        return made | {"tokenizer_2": copy.deepcopy(pipelines.tokenizer("g"))}
    return made | {"safety_checker": None, "feature_extractor": None}


@cache
def tiny_vae(channels: int, shift: float | None = None) -> Any:
    """A VAE of `channels` latent channels; newer pipelines shift its latents."""
    torch.manual_seed(2)
    return peers.diffusers().AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        shift_factor=shift,
    )


@cache
def _unet(family: str) -> Any:
    if family == "sdxl":
        return pipelines.xl_unet(6)
    torch.manual_seed(1)
    return peers.diffusers().UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        norm_num_groups=4,
        cross_attention_dim=32,
        sample_size=8,
    )


def pipeline(family: str, encoder: Callable[[str], Any]) -> Any:
    """The family's pipeline with `encoder(kind)` as each text encoder."""
    library = peers.diffusers()
    with quiet():
        if family == "sd1":
            made = library.StableDiffusionPipeline(
                text_encoder=encoder("l"), requires_safety_checker=False, **parts(family)
            )
        else:
            encoders = {"text_encoder": encoder("l"), "text_encoder_2": encoder("g")}
            made = library.StableDiffusionXLPipeline(
                **encoders, add_watermarker=False, **parts(family)
            )
    made.set_progress_bar_config(disable=True)
    return made


def ours(family: str) -> Any:
    return pipeline(family, lambda kind: as_text_encoder(clip(kind)))


def theirs(family: str) -> Any:
    return pipeline(family, lambda kind: copy.deepcopy(pipelines.text_model(kind)))


def draw(pipe: Any, prompt: str = "a cat on a mat", **options: Any) -> np.ndarray:
    size = {"height": 16, "width": 16, "num_inference_steps": 2, "output_type": "np"}
    noise = torch.Generator().manual_seed(3)
    with quiet():
        found = pipe(prompt, generator=noise, **size, **options).images
    return np.asarray(found)


def embeddings(pipe: Any, prompt: str, **options: Any) -> list[Tensor]:
    with quiet(), torch.no_grad():
        encoded = pipe.encode_prompt(
            prompt=prompt,
            device=torch.device("cpu"),
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            **options,
        )
    return [tensor for tensor in encoded if tensor is not None]


@FAMILIES
@pytest.mark.parametrize("clip_skip", [None, 1])
def test_the_image_is_the_same_as_on_transformers_own_encoder(
    family: str, clip_skip: int | None
) -> None:
    options = {"negative_prompt": "blurry", "guidance_scale": 5.0, "clip_skip": clip_skip}
    found, wanted = draw(ours(family), **options), draw(theirs(family), **options)
    assert found.shape == wanted.shape == (1, 16, 16, 3)
    assert wanted.std() > 0.01  # something is painted
    assert np.abs(found - wanted).max() <= PIXEL
    other = draw(theirs(family), "a dog", **options)
    assert np.abs(other - wanted).max() > PIXEL  # the prompt does reach it


def test_the_first_lines_of_the_docs_draw_an_image_with_sdxl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "conditioning.md"
    block = re.search(r"^```python no-run\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    assert block
    assert len(block[1].split("\n\n")[-1].strip().splitlines()) == 3  # and two imports
    with quiet():
        theirs("sdxl").save_pretrained(tmp_path / "sdxl-folder")
    monkeypatch.chdir(tmp_path)
    kind = peers.diffusers().StableDiffusionXLPipeline
    quick = partialmethod(kind.__call__, num_inference_steps=2)
    monkeypatch.setattr(kind, "__call__", quick)
    monkeypatch.setattr(opening, "conditioner", partial(conditioner, any_size=True))
    names: dict[str, Any] = {}
    with quiet():
        exec(block[1], names)
    assert np.asarray(names["image"]).std() > 1  # something is painted


@FAMILIES
@pytest.mark.parametrize("options", [{}, {"clip_skip": 2}, {"negative_prompt": "blurry"}])
def test_embeddings_of_encode_prompt_are_the_same(family: str, options: dict[str, Any]) -> None:
    found = embeddings(ours(family), "a cat on a mat!", **options)
    wanted = embeddings(theirs(family), "a cat on a mat!", **options)
    assert [tensor.shape for tensor in found] == [tensor.shape for tensor in wanted]
    assert len(found) == (2 if family == "sd1" else 4)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=PARITY)


@KINDS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
@torch.no_grad()
def test_every_output_is_that_of_the_released_class(kind: str, masked: bool, hidden: bool) -> None:
    model, peer, tokens = as_text_encoder(clip(kind)), pipelines.text_model(kind), ids(kind)
    mask = torch.ones_like(tokens)
    mask[:, 20:] = 0
    given = {"attention_mask": mask if masked else None, "output_hidden_states": hidden}
    found, wanted = model(tokens, **given), peer(tokens, **given)
    assert type(found) is type(wanted)
    assert list(found.keys()) == list(wanted.keys())
    for a, b in zip(flatten(found.to_tuple()), flatten(wanted.to_tuple()), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=PARITY)
    plain = model(tokens, return_dict=False, **given)
    assert isinstance(plain, tuple)
    assert torch.equal(plain[0], found[0])
    assert len(plain) == len(wanted.to_tuple())


def flatten(values: Any) -> list[Tensor]:
    return [t for value in values for t in (value if isinstance(value, tuple) else (value,))]


@KINDS
@torch.no_grad()
def test_attention_is_given_when_asked_for(kind: str) -> None:
    model = as_text_encoder(clip(kind))
    found = model(ids(kind), output_attentions=True)
    assert found.hidden_states is None
    assert len(found.attentions) == 5
    assert found.attentions[0].shape == (3, model.config.num_attention_heads, 77, 77)


@KINDS
def test_the_config_states_the_sizes_and_the_true_end_of_text(kind: str) -> None:
    config, wanted = as_text_encoder(clip(kind)).config, pipelines.text_model(kind).config
    names = "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads"
    for name in (*names.split(), "projection_dim", "hidden_act", "max_position_embeddings"):
        assert getattr(config, name) == getattr(wanted, name), name
    assert (config.bos_token_id, config.eos_token_id) == (49406, 49407)
    assert isinstance(config, peers.transformers().CLIPTextConfig)


@KINDS
def test_it_is_a_model_of_transformers_that_counts_every_weight(kind: str) -> None:
    model = as_text_encoder(clip(kind))
    assert isinstance(model, peers.transformers().PreTrainedModel)
    assert not model.training
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")
    assert model.num_parameters() == pipelines.text_model(kind).num_parameters()


def test_weights_share_memory_until_they_are_cast_and_the_clip_stays() -> None:
    source = clip("l")
    tower, model = source.model.text_tower, as_text_encoder(source)
    before = source.encode_text("a cat")
    assert model.tower.positions.data_ptr() == tower.positions.data_ptr()
    model.to(torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model(ids("l")).last_hidden_state.dtype == torch.bfloat16
    assert {weight.dtype for weight in tower.parameters()} == {torch.float32}
    torch.testing.assert_close(source.encode_text("a cat"), before, rtol=0, atol=0)


def test_writes_that_torch_does_not_count_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the moving average of diffusers, which writes to `.data`."""
    force(monkeypatch, "packed")
    model = as_text_encoder(clip("l"))
    with torch.no_grad():
        before = model(ids("l")).last_hidden_state
        for weight in model.parameters():
            weight.data.mul_(0.5)
        after = model(ids("l")).last_hidden_state
        wanted = model.tower.outputs(ids("l")).sequence
    assert not torch.allclose(after, before, atol=1e-3)
    torch.testing.assert_close(after, wanted, rtol=0, atol=1e-5)


def test_a_gradient_reaches_the_weights_where_one_is_wanted() -> None:
    model = as_text_encoder(clip("g"))
    for asked in (True, False):
        model.zero_grad()
        model(ids("g"), output_hidden_states=asked).text_embeds.square().sum().backward()
        grad = model.get_input_embeddings().weight.grad
        assert float(grad[ids("g")[0, 1]].abs().max()) > 0
    with torch.no_grad():
        assert not model(ids("g")).text_embeds.requires_grad


@pytest.mark.parametrize("vectors", [1, 3])
def test_textual_inversion_of_diffusers_splices_its_vectors(vectors: int) -> None:
    """The pooled vector is still that of the end of text, whose id is no longer the largest."""
    pipe, source = ours("sdxl"), clip("g")
    learned = torch.randn(vectors, 40, generator=torch.Generator().manual_seed(4))
    inversion = {"<it>": learned}
    words = {"tokenizer": pipe.tokenizer_2, "text_encoder": pipe.text_encoder_2}
    with quiet():
        pipe.load_textual_inversion(inversion, **words)
        prompt = pipe.maybe_convert_prompt("a <it> hat", pipe.tokenizer_2)
    fixed = {"padding": "max_length", "max_length": 77, "return_tensors": "pt"}
    tokens = pipe.tokenizer_2(prompt, **fixed).input_ids
    assert int(tokens.max()) > 49407
    assert pipe.text_encoder_2.config.vocab_size == 49408 + vectors
    tower = source.model.text_tower
    with torch.no_grad():
        embedded = tower.token_embedding(tokens.clamp(max=49407))
        embedded[0, 2 : 2 + vectors] = learned
        wanted = tower.outputs(tokens, layer=-2, final_norm=False, embedded=embedded)
        found = pipe.text_encoder_2(tokens, output_hidden_states=True)
    torch.testing.assert_close(found.hidden_states[-2], wanted.sequence, rtol=0, atol=PARITY)
    torch.testing.assert_close(found.text_embeds, wanted.vectors, rtol=0, atol=PARITY)
    assert len(tower.token_embedding.weight) == tower.config.vocabulary == 49408  # as it was
    assert draw(pipe, "a <it> hat").shape == (1, 16, 16, 3)
    with quiet():
        pipe.unload_textual_inversion("<it>", **words)
    left = len(pipe.text_encoder_2.get_input_embeddings().weight)
    assert left == 49407 + vectors  # diffusers takes out the one row of that name


@FAMILIES
def test_a_saved_pipeline_is_loaded_by_transformers(family: str, tmp_path: Path) -> None:
    pipe = ours(family)
    with quiet():
        pipe.save_pretrained(tmp_path)
        again = type(pipe).from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    index = json.loads((tmp_path / "model_index.json").read_text(encoding="utf-8"))
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"]
    if family == "sdxl":
        assert index["text_encoder_2"] == ["transformers", "CLIPTextModelWithProjection"]
    assert type(again.text_encoder) is peers.transformers().CLIPTextModel
    assert np.abs(draw(again) - draw(pipe)).max() <= PIXEL
    assert torch.equal(
        ecliptic.load(tmp_path / "text_encoder").encode_text("a cat"),
        clip("l").encode_text("a cat"),
    )


@FAMILIES
def test_from_pretrained_takes_ours_in_place_of_the_folders(family: str, tmp_path: Path) -> None:
    wanted = theirs(family)
    with quiet():
        wanted.save_pretrained(tmp_path)
        own = {"text_encoder": as_text_encoder(clip("l"))}
        if family == "sdxl":
            own["text_encoder_2"] = as_text_encoder(clip("g"))
        pipe = type(wanted).from_pretrained(tmp_path, **own)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.text_encoder is own["text_encoder"]
    assert np.abs(draw(pipe) - draw(wanted)).max() <= PIXEL


def test_what_it_cannot_read_is_refused() -> None:
    model, tokens = as_text_encoder(clip("l")), ids("l")
    with pytest.raises(ShapeError, match="needs input_ids"):
        model()
    with pytest.raises(ConfigError, match=r"position_ids are not 0, 1, 2.*leave them out"):
        model(tokens, position_ids=torch.arange(77).flip(0)[None])
    with pytest.raises(ShapeError, match="mask is"):
        model(tokens, attention_mask=torch.ones(3, 5))
    with torch.no_grad():
        counted = model(tokens, position_ids=torch.arange(77)[None]).last_hidden_state
        assert torch.equal(counted, model(tokens).last_hidden_state)


def test_an_image_encoder_has_no_text_side() -> None:
    with pytest.raises(MissingTowerError, match="no text side"):
        as_text_encoder(clip("vision"))


def test_without_transformers_the_command_to_install_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = clip("l")
    text_encoder._make_class.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"`pip install diffusers transformers`"):
        as_text_encoder(source)
