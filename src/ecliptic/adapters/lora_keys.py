"""Maps the names of LoRA tensors in files to modules of the text tower.

kohya's sd-scripts (networks/lora.py, also lora_sd3.py and lora_flux.py), OneTrainer, diffusers
(utils/state_dict_utils.py: both of its schemes) and PEFT. A key is a prefix that names the
encoder, then a module and a slot. Each key is read on its own, independent of the other keys.
"""

import re
from dataclasses import dataclass

# prefix of a key -> the encoder it means; "" is the pipeline's first or only one
_UNDERSCORED = {
    "lora_te_": "",
    "lora_te1_": "clip_l",
    "lora_te2_": "clip_g",
    "lora_prior_te_": "clip_g",  # Stable Cascade
}
_DOTTED = {
    "text_encoder.": "",
    "text_encoder_2.": "clip_g",
    "text_encoders.clip_l.": "clip_l",
    "text_encoders.clip_g.": "clip_g",
    "text_model.": "",
    "encoder.layers.": "",
    "text_projection.": "",
}
# denoisers, T5 and other models in such files: not for a text tower of CLIP
_OTHER = (
    "bundle_emb.",
    "controlnet.",
    "decoder.",
    "diffusion_model.",
    "down_blocks.",
    "lora_prior_unet_",
    "lora_te3_",
    "lora_transformer_",
    "lora_unet_",
    "mid_block.",
    "prior.",
    "text_encoder_3.",
    "text_encoders.t5xxl.",
    "transformer.",
    "unet.",
    "up_blocks.",
    "vae.",
)
_T5 = re.compile(r"(?:transformer\.)?(?:encoder[._]block[._]|shared\b|encoder[._]final_layer_norm)")
_WRAPPERS = ("base_model.model.", "transformer.")

# our module -> Hugging Face's
MODULES = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}
PROJECTION = "projection"
_OLD = {f"self_attn.to_{x}": f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")}
_NATIVE = {theirs: ours for ours, theirs in MODULES.items()}
_NATIVE_UNDERSCORED = {theirs.replace(".", "_"): ours for theirs, ours in _NATIVE.items()}
_UNDERSCORED_MODULE = re.compile(r"(?:text_model_)?encoder_layers_([0-9]{1,4})_([a-z0-9_]+)")
_DOTTED_MODULE = re.compile(
    r"(?:text_model\.)?encoder\.layers\.([0-9]{1,4})\."
    r"(self_attn\.[a-z]+_proj|self_attn\.to_[a-z]+(?=_lora\.)|mlp\.[a-z0-9]+)[._](.+)"
)
_DOTTED_PROJECTION = re.compile(r"text_projection\.(.+)")

_SLOTS = {
    "alpha": "alpha",
    "lora.alpha": "alpha",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_down.weight": "down",
    "lora_linear_layer.alpha": "alpha",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_up.weight": "up",
}
_ADAPTER = re.compile(r"(lora_[AB])\.\w+\.weight")  # PEFT in memory: has the adapter's name
# start of another slot -> its method, which then applies to the whole module
METHODS = {
    "a1.": "GLoRA",
    "b1.": "GLoRA",
    "diff": "a full difference of weights",
    "dora_scale": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_B.bias": "LoRA with a bias",
    "lora_magnitude_vector": "DoRA",
    "lora_mid": "a Tucker-decomposed convolution",
    "lora_up.bias": "LoRA with a bias",
    "oft_": "OFT",
    "w_norm": "a difference of norms",
}


@dataclass(frozen=True)
class Place:
    """Where one tensor belongs: `slot` of the LoRA of `module`, in the encoder `part`."""

    part: str  # "clip_l", "clip_g", or "" for the first or only encoder
    module: str  # "blocks.3.attention.q", ..., "projection"
    slot: str  # "down", "up", "alpha", or one that begins with a key of METHODS


def is_other(key: str) -> bool:
    """Whether the tensor belongs to a denoiser, a T5 or anything but a text encoder of CLIP."""
    key = _unwrap(key)
    found = _split(key)
    return key.startswith(_OTHER) or (found is not None and _T5.match(found[1]) is not None)


def place_of(key: str) -> Place | str:
    """Find where the tensor `key` belongs, or say why this is unknown."""
    found = _split(_unwrap(key))
    if found is None:
        return "its name does not begin with a known encoder or denoiser"
    part, rest, underscored = found
    module, slot = _parse_underscored(rest) if underscored else _parse_dotted(rest)
    if not module:
        return "CLIP's text encoder has no such linear layer"
    slot = _ADAPTER.sub(r"\1.weight", slot)
    known = _SLOTS.get(slot) or (slot if slot.startswith(tuple(METHODS)) else "")
    return Place(part, module, known) if known else f"{slot!r} is not a part of a LoRA"


def method_of(slot: str) -> str | None:
    """The name of the method that writes such a slot; None for plain LoRA."""
    return next((name for start, name in METHODS.items() if slot.startswith(start)), None)


def hugging_face_name(module: str) -> str:
    """The name of `module` in transformers, for settings that name modules."""
    if module == PROJECTION:
        return "text_projection"
    _, block, inner = module.split(".", 2)
    return f"text_model.encoder.layers.{block}.{MODULES[inner]}"


def _unwrap(key: str) -> str:
    return key.removeprefix("base_model.model.").replace(".processor.", ".")


def _split(key: str) -> tuple[str, str, bool] | None:
    """Split a key into its part and the rest; True if underscores join the words of the rest."""
    for prefix, part in _UNDERSCORED.items():
        if key.startswith(prefix):
            return part, key.removeprefix(prefix), True
    for prefix, part in _DOTTED.items():
        if not key.startswith(prefix):
            continue
        if not prefix.startswith("text_encoder"):
            return part, key, False  # the prefix is part of the module's name
        rest = key.removeprefix(prefix)
        for wrapper in _WRAPPERS:
            rest = rest.removeprefix(wrapper)
        return part, rest, False
    return None


def _parse_underscored(rest: str) -> tuple[str, str]:
    """Read our module and the slot; the module is "" if it is unknown."""
    name, _, slot = rest.partition(".")
    if name == "text_projection":
        return PROJECTION, slot
    match = _UNDERSCORED_MODULE.fullmatch(name)
    inner = _NATIVE_UNDERSCORED.get(match[2]) if match else None
    return (f"blocks.{int(match[1])}.{inner}", slot) if match and inner else ("", slot)


def _parse_dotted(rest: str) -> tuple[str, str]:
    if match := _DOTTED_PROJECTION.fullmatch(rest):
        return PROJECTION, match[1]
    match = _DOTTED_MODULE.fullmatch(rest)
    inner = _NATIVE.get(_OLD.get(match[2], match[2])) if match else None
    return (f"blocks.{int(match[1])}.{inner}", match[3]) if match and inner else ("", "")
