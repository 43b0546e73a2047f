from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.checkpoints import Checkpoint, Hints, catalog, read, write
from ecliptic.checkpoints.identity.assemble import assemble
from ecliptic.checkpoints.identity.hints import Stated
from ecliptic.checkpoints.identity.tower_sizes import released_heads
from ecliptic.checkpoints.layouts import diffusers, openai, transformers
from ecliptic.errors import AmbiguousCheckpointError, ConfigError, WeightsMismatchError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, ResNetConfig, ViTConfig, build
from tests import tiny
from tests.checkpoints.test_open_clip import hints_for, to_open_clip


def assemble_bare(config: ClipConfig, hints: Hints, stated: Stated | None = None) -> Checkpoint:
    """Assemble a bare state dict of these sizes; on the meta device, so any size works."""
    resnet = isinstance(config.image, ResNetConfig)
    table = openai.WITH_RESNET if resnet else openai.WITH_VIT
    tensors = table.from_native(build(config).state_dict())
    return assemble(tensors, table, stated or Stated(), hints, layout="test", what="x.pt")


@pytest.mark.parametrize("name", catalog.names())
def test_every_released_model_is_identified_from_its_shapes(name: str) -> None:
    row = catalog.find(name)
    found = assemble_bare(row.config, Hints(activation=row.activation, image_spec=row.image_spec))
    assert found.config == row.config
    assert found.tokenizer_spec == TokenizerSpec()


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"])
def test_hugging_face_names_identify_the_same_sizes(name: str) -> None:
    config = catalog.architecture(name)
    tensors = transformers.TABLE.from_native(build(config).state_dict())
    hints = Hints(activation="gelu", image_spec=ImageSpec())
    found = assemble(
        tensors, transformers.TABLE, Stated(), hints, layout="test", what="model.safetensors"
    )
    assert found.config == config


def test_heads_are_not_the_width_over_64() -> None:
    heads = released_heads()
    assert heads["image", 1280, 32] == heads["image", 1408, 40] == heads["image", 1664, 48] == 16
    assert heads["text", 1280, 32] == 20
    assert heads["text", 1024, 23] == 16  # Stable Diffusion 2


def test_a_width_and_depth_has_one_head_count_in_the_catalog() -> None:
    for name in catalog.architectures():
        config = catalog.architecture(name)
        assert config.text
        assert released_heads()["text", config.text.width, config.text.depth] == config.text.heads
        if isinstance(config.image, ViTConfig):
            image = config.image
            assert released_heads()["image", image.width, image.depth] == image.heads


def test_an_h14_in_openais_layout_is_a_question_because_its_builder_is_wrong() -> None:
    stated = Stated(activation="quick_gelu", head_width=64, image_spec=ImageSpec())
    with pytest.raises(AmbiguousCheckpointError, match=r"uses 20 heads, the released model has 16"):
        assemble_bare(catalog.architecture("ViT-H-14"), Hints(), stated)
    assert assemble_bare(catalog.architecture("ViT-B-32"), Hints(), stated).config.image


def test_the_question_about_a_b32_names_who_it_could_be() -> None:
    with pytest.raises(AmbiguousCheckpointError) as caught:
        assemble_bare(ClipConfig(), Hints())
    message = str(caught.value)
    assert "x.pt does not say its activation" in message
    assert "ViT-B-32-shaped" in message
    quick, _, plain = message.partition(" or GELU (")
    assert "openai" in quick
    assert "metaclip_400m" in quick
    assert "laion2b_s34b_b79k" in plain
    assert 'pass activation="quick_gelu" or activation="gelu"' in message


def test_released_models_that_agree_settle_the_preprocessing_with_a_note() -> None:
    found = assemble_bare(ClipConfig(), Hints(activation="gelu"))
    assert found.image_spec == ImageSpec()
    assert any("image_spec=" in note for note in found.notes)


@pytest.mark.parametrize(("name", "activation"), [("ViT-L-14", "gelu"), ("ViT-H-14", "quick_gelu")])
def test_released_models_that_differ_do_not_settle_it(name: str, activation: str) -> None:
    with pytest.raises(AmbiguousCheckpointError, match=r"pass image_spec=ImageSpec\(\.\.\.\)"):
        assemble_bare(catalog.architecture(name), Hints(activation=activation))  # type: ignore[arg-type]


def test_a_catalog_row_answers_every_question(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    torch.save(to_open_clip(checkpoint), tmp_path / "model.pt")
    spec = ImageSpec(size=32, resize="squash")
    row = replace(catalog.find("ViT-B-32/openai"), image_spec=spec)
    found = read(tmp_path / "model.pt", Hints(heads=(2, 1)), row)
    assert found.config == checkpoint.config
    assert found.image_spec == spec
    assert found.name == "ViT-B-32/openai"


def test_a_resnet_alone_has_no_activation_to_ask_for(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("resnet_image")
    state = openai.WITH_RESNET.from_native(checkpoint.weights)
    torch.save(state, tmp_path / "model.pt")
    found = read(tmp_path / "model.pt", Hints(image_spec=checkpoint.image_spec))
    assert found.config == checkpoint.config
    assert found.tokenizer_spec is None


def test_basic_blocks_are_seen_in_the_shapes_and_their_heads_are_asked_for(tmp_path: Path) -> None:
    """As in the state dict of a facade; no released model, and so no rule, has such blocks."""
    checkpoint = tiny.checkpoint("basic")
    torch.save(openai.WITH_RESNET.from_native(checkpoint.weights), tmp_path / "model.pt")
    hints = hints_for(checkpoint)
    with pytest.raises(AmbiguousCheckpointError, match=r"basic blocks.*128.*heads=\(image, text\)"):
        read(tmp_path / "model.pt", replace(hints, heads=None))
    found = read(tmp_path / "model.pt", replace(hints, heads=(4, 1)))
    assert found.config == checkpoint.config


def test_a_cut_vocabulary_asks_for_its_tokenizer(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("cut")
    path = tmp_path / "model.pt"
    torch.save(to_open_clip(checkpoint), path)
    with pytest.raises(AmbiguousCheckpointError, match="534 tokens, but the reference"):
        read(path, hints_for(checkpoint))
    found = read(path, replace(hints_for(checkpoint), tokenizer_spec=tiny.CUT))
    assert found.config == checkpoint.config
    assert found.tokenizer_spec == tiny.CUT


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
@pytest.mark.parametrize("rows", [49_409, 60_000])
def test_a_larger_vocabulary_asks_for_its_tokenizer(tmp_path: Path, rows: int, layout: str) -> None:
    """Its texts would be cut into other tokens than those it was trained on."""
    checkpoint = tiny.checkpoint()
    assert checkpoint.config.text
    table = torch.zeros(rows, checkpoint.config.text.width)
    weights = {**checkpoint.weights, "text.token_embedding.weight": table}
    text = replace(checkpoint.config.text, vocabulary=rows)
    config = replace(checkpoint.config, text=text)
    larger = replace(checkpoint, config=config, weights=weights)
    path = tmp_path / "model"
    if layout == "transformers":
        write(larger, path, layout)
        for name in ("merges.txt", "vocab.json", "tokenizer.json"):
            (path / name).unlink(missing_ok=True)
    else:
        torch.save(to_open_clip(larger), path)
    hints = hints_for(larger)
    with pytest.raises(AmbiguousCheckpointError, match=rf"{rows} tokens.*tokenizer_spec="):
        read(path, hints)
    spec = TokenizerSpec(context=16)
    found = read(path, replace(hints, tokenizer_spec=spec))
    assert (found.config, found.tokenizer_spec) == (config, spec)


def test_specs_that_do_not_fit_the_towers_are_refused(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path)
    with pytest.raises(ConfigError, match="224 pixels, the image tower takes 32"):
        read(tmp_path, Hints(image_spec=ImageSpec()))
    with pytest.raises(ConfigError, match="77 tokens, the text tower takes 49408 and 16"):
        read(tmp_path, Hints(tokenizer_spec=TokenizerSpec()))


def test_arguments_that_contradict_the_file_win_and_are_noted(tmp_path: Path) -> None:
    write(tiny.checkpoint(activation="gelu"), tmp_path)
    found = read(tmp_path, Hints(activation="quick_gelu", heads=4))
    assert found.config.text
    assert (found.config.text.activation, found.config.text.heads) == ("quick_gelu", 4)
    assert any("as given" in note for note in found.notes)


def test_c6_one_error_lists_every_difference(tmp_path: Path) -> None:
    state = to_open_clip(tiny.checkpoint())
    del state["ln_final.bias"], state["visual.transformer.resblocks.1.ln_2.weight"]
    state["text_projection"] = state["text_projection"].t().contiguous()
    state["visual.class_embedding"] = state["visual.class_embedding"].long()
    state["head.weight"] = torch.zeros(3, 4)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(WeightsMismatchError) as caught:
        read(tmp_path / "model.pt", hints_for(tiny.checkpoint()))
    message = str(caught.value)
    assert "5 differences" in message
    assert "missing: ln_final.bias, for text.ln_final.bias (64,)" in message
    assert "missing: visual.transformer.resblocks.1.ln_2.weight" in message
    assert "shape: text_projection is (32, 64), (64, 32) is needed (transposed?)" in message
    assert "dtype: visual.class_embedding is torch.int64" in message
    assert "unexpected: head.weight (3, 4)" in message
    assert "Nothing was loaded" in message


def test_a_missing_third_of_the_attention_is_named(tmp_path: Path) -> None:
    write(tiny.checkpoint("text"), tmp_path, "transformers")
    state = transformers.TABLE.from_native(tiny.checkpoint("text").weights)
    state = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    del state["text_model.encoder.layers.1.self_attn.k_proj.weight"]
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsMismatchError, match=r"1 difference:\n  missing: \S+k_proj.weight,"):
        read(tmp_path)


def test_files_that_are_no_clip_say_what_they_hold(tmp_path: Path) -> None:
    torch.save({"linear.weight": torch.zeros(2, 2)}, tmp_path / "head.pt")
    with pytest.raises(Exception, match=r"1 tensors \(linear.weight, ...\), whose names match no"):
        read(tmp_path / "head.pt")
    torch.save({"token_embedding.weight": torch.zeros(2, 2)}, tmp_path / "rest.pt")
    with pytest.raises(WeightsMismatchError, match="missing: ln_final"):
        read(tmp_path / "rest.pt")


def test_prefixes_of_pipelines_are_distinct() -> None:
    prefixes = [encoder.prefix for encoder in diffusers.ENCODERS]
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and a.startswith(b)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation": "quickgelu"}, "use 'quick_gelu' or 'gelu'"),
        ({"heads": 0}, "heads must be one number"),
        ({"heads": (4, 2, 1)}, "heads must be one number"),
        ({"heads": ("4", 2)}, "heads must be one number"),
        ({"heads": 2.0}, "heads must be one number"),
    ],
)
def test_answers_that_mean_nothing_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Hints(**fields)


def test_heads_may_be_a_list() -> None:
    given: Any = [4, 2]
    assert (Hints(heads=given).heads_of("image"), Hints(heads=given).heads_of("text")) == (4, 2)
