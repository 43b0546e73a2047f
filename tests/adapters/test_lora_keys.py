"""Each name of a LoRA tensor is read on its own, and any string gives a place or a reason."""

import pytest
from hypothesis import example, given, settings, strategies as st

from ecliptic.adapters.lora_keys import MODULES, Place, hugging_face_name, is_other, place_of
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
