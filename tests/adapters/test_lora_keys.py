"""Each name of a LoRA tensor is read on its own, and any string gives a place or a reason."""

import pytest
from hypothesis import example, given, settings, strategies as st

from ecliptic.adapters.lora_keys import (
    MODULES,
    Place,
    hugging_face_name,
    is_other,
    is_t5,
    place_of,
)
from tests.adapters.files import SCHEMES, Sizes, pairs, without_prefix

WORDS = ["lora_te_", "lora_te2_", "text_encoder.", "text_model.", "encoder.layers.", "unet.", "12."]
WORDS += [
    "self_attn.",
    "to_q",
    "q_proj",
    "mlp",
    "fc1",
    "_lora",
    ".lora_A",
    ".weight",
    ".alpha",
    "_",
]


@settings(max_examples=60)
@given(key=st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS)).map("".join)))
@example("")
@example("lora_te_")
@example("text_encoder.")
@example("lora_te_text_model_encoder_layers_99999_mlp_fc1.alpha")
def test_any_string_is_a_place_or_has_a_reason(key: str) -> None:
    place = place_of(key)
    assert isinstance(is_other(key), bool)
    assert isinstance(place, Place) or len(place) > 10


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_key_means_the_same_with_and_without_text_model(scheme: str) -> None:
    tensors = SCHEMES[scheme](pairs(Sizes(depth=12)))
    for key in tensors:
        [short] = without_prefix({key: tensors[key]})
        place = place_of(key)
        assert isinstance(place, Place), key
        assert short != key
        assert place_of(short) == place
        assert not is_other(key)
        assert not is_other(short)


def test_modules_go_to_hugging_face_and_back() -> None:
    for block in (0, 11, 31):
        for inner in MODULES:
            module = f"blocks.{block}.{inner}"
            dotted = hugging_face_name(module)
            place = place_of(f"text_encoder_2.{dotted}.lora_B.weight")
            assert place == Place("clip_g", module, "up")
    assert hugging_face_name("projection") == "text_projection"


def test_no_two_keys_of_a_scheme_fall_together() -> None:
    for scheme, make in SCHEMES.items():
        places = [place_of(key) for key in make(pairs(Sizes(depth=12)))]
        assert len(set(places)) == len(places) == 2 * 6 * 12, scheme


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (
            "lycoris_te1_text_model_encoder_layers_2_mlp_fc1.diff",
            ("clip_l", "blocks.2.mlp.up"),
        ),
        ("lycoris_text_model_encoder_layers_2_mlp_fc1.diff", ("", "blocks.2.mlp.up")),
        ("clip_h.transformer.text_model.final_layer_norm.w_norm", ("clip_h", "ln_final")),
        ("text_encoders.clip_g.transformer.text_projection.diff", ("clip_g", "projection")),
        ("lora_te_transformer_resblocks_3_attn_in_proj.alpha", ("", "blocks.3.attention.qkv")),
        ("clip_g.transformer.resblocks.3.mlp.c_fc.lora_A.weight", ("clip_g", "blocks.3.mlp.up")),
        ("base_model.model.encoder.layers.0.layer_norm2.ia3_l.default", ("", "blocks.0.ln_2")),
    ],
)
def test_prefixes_and_modules_of_other_tools(key: str, place: tuple[str, str]) -> None:
    found = place_of(key)
    assert isinstance(found, Place), found
    assert (found.part, found.module) == place
    assert not is_other(key)


@pytest.mark.parametrize(
    ("key", "t5"),
    [
        ("lora_te3_encoder_block_0_layer_0_SelfAttention_q.alpha", True),
        ("lora_te2_encoder_block_0_layer_0_SelfAttention_q.alpha", True),
        ("text_encoders.t5xxl.transformer.encoder.block.0.x.lora_A.weight", True),
        ("lycoris_te3_encoder_block_0_layer_0_SelfAttention_q.lokr_w1", True),
        ("lycoris_down_blocks_0_x.lokr_w1", False),
        ("transformer.transformer_blocks.0.x.lora_A.weight", False),
    ],
)
def test_keys_of_other_models_are_other(key: str, t5: bool) -> None:
    assert is_other(key)
    assert is_t5(key) == t5
