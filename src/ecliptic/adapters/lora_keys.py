"""Maps the names of LoRA tensors in files to modules of the text tower.

kohya's sd-scripts (networks/lora.py, also lora_sd3.py and lora_flux.py), LyCORIS, OneTrainer,
diffusers (utils/state_dict_utils.py: both of its schemes), PEFT and ComfyUI (comfy/lora.py
`model_lora_keys_clip`). A key is a prefix that names the encoder, then a module and a slot. Each
key is read on its own, independent of the other keys.
"""

import re
from dataclasses import dataclass

# prefix of a key -> the encoder it means; "" is the pipeline's first or only one
_UNDERSCORED = {
    "lora_te_": "",
    "lora_te1_": "clip_l",
    "lora_te2_": "clip_g",
    "lora_prior_te_": "clip_g",  # Stable Cascade
    "lycoris_te_": "",
    "lycoris_te1_": "clip_l",
    "lycoris_te2_": "clip_g",
    "lycoris_": "",  # a network of LyCORIS around one text encoder
}
_DOTTED = {
    "text_encoder.": "",
    "text_encoder_2.": "clip_g",
    "text_encoders.clip_l.": "clip_l",
    "text_encoders.clip_g.": "clip_g",
    "text_encoders.clip_h.": "clip_h",
    "clip_l.": "clip_l",
    "clip_g.": "clip_g",
    "clip_h.": "clip_h",
}
_BARE = (  # a key without the name of an encoder begins with a module
    "text_model.",
    "encoder.layers.",
    "final_layer_norm.",
    "text_projection.",
    "transformer.resblocks.",
    "resblocks.",
    "ln_final.",
)
# denoisers, T5 and other models in such files: not for a text tower of CLIP
_T5_PREFIXES = (
    "lora_te3_",
    "lycoris_te3_",
    "t5.",
    "t5xxl.",
    "text_encoder_3.",
    "text_encoders.t5xxl.",
)
_OTHER = (
    "bundle_emb.",
    "controlnet.",
    "decoder.",
    "diffusion_model.",
    "down_blocks.",
    "lora_prior_unet_",
    "lora_transformer_",
    "lora_unet_",
    "mid_block.",
    "prior.",
    "transformer.",
    "unet.",
    "up_blocks.",
    "vae.",
)
_OF_LYCORIS = re.compile(r"lycoris_(?!te[0-9]?_|text_model_|encoder_layers_|final_layer_norm\b)")
_T5 = re.compile(r"(?:transformer\.)?(?:encoder[._]block[._]|shared\b|encoder[._]final_layer_norm)")
_WRAPPERS = ("base_model.model.", "transformer.", "model.")

# our module -> Hugging Face's
MODULES = {
    "attention.q": "self_attn.q_proj",
    "attention.k": "self_attn.k_proj",
    "attention.v": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
OPEN_CLIP = {  # our module -> OpenCLIP's, which has q, k and v in one
    "attention.qkv": "attn.in_proj",
    "attention.out": "attn.out_proj",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
    "ln_1": "ln_1",
    "ln_2": "ln_2",
}
PROJECTION, LAST_NORM = "projection", "ln_final"
_OLD = {f"self_attn.to_{x}": f"attention.{x}" for x in ("q", "k", "v", "out")}  # and "_lora"
_NATIVE = {theirs: ours for ours, theirs in (MODULES | {LAST_NORM: "final_layer_norm"}).items()}
_NATIVE |= {theirs: ours for ours, theirs in OPEN_CLIP.items()} | _OLD
_NATIVE |= {"text_projection": PROJECTION, "ln_final": LAST_NORM}
_SPELLED = {theirs.replace(".", "_"): ours for theirs, ours in _NATIVE.items()}
_BLOCK = r"(?:(?:text_model[._])?encoder[._]layers|(?:model_)?(?:transformer[._])?resblocks)[._]"
_IN_BLOCK = "|".join(
    re.escape(theirs) + (r"(?=_lora\.)" if theirs in _OLD else "")
    for theirs, ours in _NATIVE.items()
    if ours not in (PROJECTION, LAST_NORM)
)
_ALONE = r"(?:text_model[._])?(text_projection|final_layer_norm|ln_final)"
_UNDERSCORED_MODULE = re.compile(_BLOCK + r"([0-9]{1,4})_([a-z0-9_]+)")
_UNDERSCORED_ALONE = re.compile(_ALONE)
_DOTTED_MODULE = re.compile(_BLOCK + rf"([0-9]{{1,4}})\.({_IN_BLOCK})[._](.+)")
_DOTTED_ALONE = re.compile(_ALONE + r"\.(.+)")

_SLOTS = {
    "a1.weight": "a1",
    "a2.weight": "a2",
    "alpha": "alpha",
    "b1.weight": "b1",
    "b2.weight": "b2",
    "b_norm": "diff_b",
    "diff": "diff",
    "diff_b": "diff_b",
    "dora_scale": "dora_scale",
    "ia3_l": "ia3_l",
    "lora.alpha": "alpha",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.bias": "bias",
    "lora_B.weight": "up",
    "lora_down.weight": "down",
    "lora_linear_layer.alpha": "alpha",
    "lora_linear_layer.down.weight": "down",
    "lora_linear_layer.up.weight": "up",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "lora_up.bias": "bias",
    "lora_up.weight": "up",
    "on_input": "on_input",
    "w_norm": "diff",
    "weight": "weight",
}
_SLOTS |= {
    f"{name}_{end}": f"{name}_{end}"
    for name in ("hada_w1", "hada_w2", "lokr_w1", "lokr_w2")
    for end in "ab"
}
_SLOTS |= {name: name for name in ("hada_t1", "hada_t2", "lokr_w1", "lokr_w2", "lokr_t2")}
# PEFT in memory has the adapter's name after the slot's: `lora_A.default.weight`, `ia3_l.default`
_ADAPTER = re.compile(
    r"(lora_[AB]|lora_magnitude_vector|ia3_l|hada_\w+?|lokr_\w+?)\.(?!weight$|bias$)[^.]+"
    r"(\.weight|\.bias|)"
)
# start of another slot -> its method, which then applies to the whole module and is not supported
METHODS = {
    "lora_mid": "a Tucker-decomposed convolution",
    "oft_R": "OFT of PEFT",
    "oft_blocks": "OFT or BOFT",
    "oft_diag": "OFT",
    "boft_": "BOFT",
    "vera_": "VeRA",
    "hra_": "HRA",
    "rescale": "OFT or BOFT with a rescaling",
}


@dataclass(frozen=True)
class Place:
    """Where one tensor belongs: `slot` of the change of `module`, in the encoder `part`."""

    part: str  # "clip_l", "clip_g", "clip_h", or "" for the first or only encoder
    module: str  # "blocks.3.attention.q", ..., "ln_final", "projection"
    slot: str  # a value of `_SLOTS`, or one that begins with a key of METHODS


def is_t5(key: str) -> bool:
    """Whether the tensor belongs to a T5 encoder, by its prefix or the names of its modules."""
    key = _unwrap(key)
    found = _split(key)
    return key.startswith(_T5_PREFIXES) or (found is not None and bool(_T5.match(found[1])))


def is_other(key: str) -> bool:
    """Whether the tensor belongs to a denoiser, a T5 or anything but a text encoder of CLIP."""
    bare = _unwrap(key)
    if bare.startswith(_BARE):
        return False
    return bare.startswith(_OTHER) or bool(_OF_LYCORIS.match(bare)) or is_t5(key)


def place_of(key: str) -> Place | str:
    """Find where the tensor `key` belongs, or say why this is unknown."""
    found = _split(_unwrap(key))
    if found is None:
        return "its name does not begin with a known encoder or denoiser"
    part, rest, underscored = found
    module, slot = _parse_underscored(rest) if underscored else _parse_dotted(rest)
    if not module:
        return "CLIP's text encoder has no such layer among those that adapters change"
    slot = _ADAPTER.sub(r"\1\2", slot)
    known = _SLOTS.get(slot) or (slot if slot.startswith(tuple(METHODS)) else "")
    return Place(part, module, known) if known else f"{slot!r} is not a part of a LoRA"


def method_of(slot: str) -> str | None:
    """The name of the unsupported method that writes such a slot; None for the others."""
    return next((name for start, name in METHODS.items() if slot.startswith(start)), None)


def hugging_face_name(module: str) -> str:
    """The name of `module` in transformers, for settings that name modules."""
    if module == PROJECTION:
        return "text_projection"
    if module == LAST_NORM:
        return "text_model.final_layer_norm"
    _, block, inner = module.split(".", 2)
    return f"text_model.encoder.layers.{block}.{MODULES.get(inner, inner)}"


def _unwrap(key: str) -> str:
    return key.removeprefix("base_model.model.").replace(".processor.", ".")


def _split(key: str) -> tuple[str, str, bool] | None:
    """Split a key into its part and the rest; True if underscores join the words of the rest."""
    for prefix, part in _UNDERSCORED.items():
        if key.startswith(prefix):
            return part, key.removeprefix(prefix), True
    for prefix, part in _DOTTED.items():
        if key.startswith(prefix):
            rest = key.removeprefix(prefix)
            for wrapper in _WRAPPERS:
                bare = rest.removeprefix(wrapper)
                rest = rest if rest.startswith(_BARE) else bare
            return part, rest, False
    return ("", key, False) if key.startswith(_BARE) else None


def _parse_underscored(rest: str) -> tuple[str, str]:
    """Read our module and the slot; the module is "" if it is unknown."""
    name, _, slot = rest.partition(".")
    if alone := _UNDERSCORED_ALONE.fullmatch(name):
        return _NATIVE[alone[1]], slot
    match = _UNDERSCORED_MODULE.fullmatch(name)
    inner = _SPELLED.get(match[2]) if match else None
    return (f"blocks.{int(match[1])}.{inner}", slot) if match and inner else ("", slot)


def _parse_dotted(rest: str) -> tuple[str, str]:
    if alone := _DOTTED_ALONE.fullmatch(rest):
        return _NATIVE[alone[1]], alone[2]
    match = _DOTTED_MODULE.fullmatch(rest)
    return (f"blocks.{int(match[1])}.{_NATIVE[match[2]]}", match[3]) if match else ("", "")
