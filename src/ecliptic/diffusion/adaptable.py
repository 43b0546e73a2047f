"""Lets diffusers put adapters (LoRAs) on our text encoder, by turning it into transformers' own.

diffusers looks for the names of transformers' layers and then calls `load_adapter`, where PEFT
wraps those layers. So the names are there from the beginning, without weights, and the first
adapter turns the encoder into transformers' own class with a copy of the weights. From then on it
is that class in everything: with transformers from 5.6, diffusers' `clip_skip` fails on SD 1 and 2.
Source: diffusers 0.42.1 loaders/lora_base.py, transformers 5.23 integrations/peft.py.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import transformers_keys
from ecliptic.errors import ConfigError
from ecliptic.model import TextTower

PREFIX = "text_model."  # of CLIPTextModel's layers before transformers 5.6
ATTENTION, MLP = ("k_proj", "v_proj", "q_proj", "out_proj"), ("fc1", "fc2")


class NamedPlace(nn.Module):
    """Stands where transformers has a layer; its text is the advice that PEFT's error shows."""

    def __repr__(self) -> str:
        return (
            "<a layer of ecliptic's as_text_encoder, which PEFT cannot wrap: call "
            "text_encoder.add_adapter(config), which gives it transformers' layers, or merge a "
            "LoRA with Conditioner.add_lora>"
        )

    def forward(self, *_args: Any, **_kwargs: Any) -> Any:
        """Refuse to compute.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("only a name stands here; call the text encoder itself.")


def name_places(depth: int) -> nn.Module:
    """The names of transformers' `encoder` with `depth` layers."""
    layers = []
    for _ in range(depth):
        layer = nn.Module()
        for name, parts in (("self_attn", ATTENTION), ("mlp", MLP)):
            inner = nn.Module()
            for part in parts:
                inner.add_module(part, NamedPlace())
            layer.add_module(name, inner)
        layers.append(layer)
    encoder = nn.Module()
    encoder.add_module("layers", nn.ModuleList(layers))
    return encoder


class TextModelNames(nn.Module):
    """`text_model` of our encoder: the parts that diffusers reads, and the names of layers."""

    def __init__(self, owner: Any, depth: int) -> None:
        super().__init__()
        self._owner = [owner]  # in a list, so that it is not registered inside itself
        self.encoder = name_places(depth)

    @property
    def final_layer_norm(self) -> nn.Module:
        """The tower's final norm."""
        norm: nn.Module = self._owner[0].tower.ln_final
        return norm

    @property
    def embeddings(self) -> Any:
        """The table of token embeddings, under transformers' name."""
        places = nn.Module()
        object.__setattr__(places, "token_embedding", self._owner[0].tower.token_embedding)
        return places

    @property
    def config(self) -> Any:
        """The owner's config."""
        return self._owner[0].config


def become_original(model: Any, tower: TextTower, original: Any) -> None:
    """Turn `model` into transformers' class `original`, with a copy of the tower's weights.

    A copy, because adapters can be fused into weights in place, and those of the tower may be
    shared with a `Clip` or mapped from a file.
    """
    weights = transformers_keys(
        {f"text.{name}": tensor.detach() for name, tensor in tower.state_dict().items()}
    )
    with torch.device("meta"):
        made = original(copy.deepcopy(model.config))
    own = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in rename_keys(weights, flat=is_flat(made)).items()
    }
    made.load_state_dict(own, assign=True)
    for module in made.modules():  # the one buffer, which no file has
        if "position_ids" in module._buffers:
            positions = torch.arange(tower.config.context, device=tower.positions.device)
            module._buffers["position_ids"] = positions[None]
    made.train(model.training)
    for parameter in made.parameters():
        parameter.requires_grad_(tower.positions.requires_grad)
    model.__class__ = original
    model.__dict__.clear()
    model.__dict__.update(made.__dict__)


def is_flat(model: Any) -> bool:
    """Whether its layers have no `text_model.` before their names, as CLIPTextModel since 5.6."""
    return not any(name == PREFIX[:-1] for name, _ in model.named_children())


def rename_keys(named: Mapping[str, Tensor], *, flat: bool) -> dict[str, Tensor]:
    """Give the names that `model` has, whatever version of transformers wrote them."""
    return {rename(name, flat=flat): tensor for name, tensor in named.items()}


def rename(name: str, *, flat: bool) -> str:
    """One name, with or without `text_model.`."""
    bare = name.removeprefix(PREFIX)
    inside = bare.startswith(("encoder.", "embeddings.", "final_layer_norm"))
    return bare if flat or not inside else PREFIX + bare


def rename_config(config: Any, *, flat: bool) -> Any:
    """The same for the complete names in a `LoraConfig`."""
    config = copy.copy(config)
    targets = getattr(config, "target_modules", None)
    if isinstance(targets, list | tuple | set):
        config.target_modules = {rename(name, flat=flat) for name in targets}
    for pattern in ("rank_pattern", "alpha_pattern"):
        if named := getattr(config, pattern, None):
            setattr(config, pattern, {rename(n, flat=flat): v for n, v in named.items()})
    return config
