"""Our text tower as a model of transformers, so that diffusers pipelines can run on it.

diffusers checks that a `text_encoder` is transformers' `PreTrainedModel` and reads its config,
dtype, hidden states and final norm; the model has only those. It pools at the first end of text,
also if learned words have larger ids, and `clip_skip` works in every version of transformers. A
pipeline saves it under the name of transformers' own class, so the saved folder needs no ecliptic.
The first adapter (LoRA) turns it into transformers' own class; `adaptable.py` says how.
Source: transformers 5.23 modeling_clip.py, diffusers 0.42.1 pipeline_stable_diffusion{,_xl}.py.
B batch, T tokens, D width, E vector size.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import Checkpoint, write
from ecliptic.diffusion.adaptable import (
    TextModelNames,
    become_original,
    is_flat,
    name_places,
    rename_config,
    rename_keys,
)
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, MissingExtraError, ShapeError
from ecliptic.model import ClipConfig, TextTower, TwoTowers, build
from ecliptic.runtime import Runtime

PLAIN, PROJECTED = "CLIPTextModel", "CLIPTextModelWithProjection"


def as_text_encoder(clip: Clip) -> Any:
    """Make a `transformers.PreTrainedModel` that computes with the text tower of `clip`.

    It replaces CLIPTextModelWithProjection if the tower has a projection, otherwise CLIPTextModel.
    Its weights share the memory of `clip` until they are moved, cast, resized or adapted, which
    does not change `clip`. `pipe.load_lora_weights` and `add_adapter` work, and turn it into that
    class with weights of its own; `Conditioner.add_lora` merges without that. It computes with
    PyTorch's own operators, whatever kernels `clip` has, so every write to a weight is seen.

    Raises:
        MissingTowerError: the checkpoint has no text tower.
        MissingExtraError: transformers is not installed.
    """
    runtime = Runtime(_share_weights(clip.model.text_tower))  # plain: its weights may be trained
    tower = runtime.model.text_tower
    start, pad = tower.config.end_of_text - 1, tower.config.end_of_text
    if spec := clip.card.tokenizer_spec:
        start, pad = spec.start_of_text, spec.pad
    kind = _make_class(PLAIN if tower.projection is None else PROJECTED)
    return kind(_make_config(tower, start, pad), runtime).eval()


class _Wrapped:
    """Our own methods; `_make_class` adds those of transformers' `PreTrainedModel`."""

    config: Any  # CLIPTextConfig
    tower: TextTower

    def __init__(self, config: Any, runtime: Runtime) -> None:
        super().__init__(config)  # type: ignore[call-arg]  # PreTrainedModel's
        self.post_init()  # type: ignore[attr-defined]  # before there are weights, so that it initialises none
        self.runtime = runtime
        self.tower = runtime.model.text_tower
        self.text_model = TextModelNames(self, self.tower.config.depth)
        if self.tower.projection is None:  # this class has its layers at the top since 5.6
            self.encoder = name_places(self.tower.config.depth)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of token embeddings, to which textual inversion adds rows."""
        table = self.tower.token_embedding
        assert isinstance(table, nn.Embedding)
        return table

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the table; its rows are the new vocabulary."""
        self.tower.token_embedding = value
        self.tower.config = replace(self.tower.config, vocabulary=len(value.weight))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Encode (B, T) ids to the output of the released class; a tuple if not `return_dict`.

        Raises:
            ShapeError: no ids, a mask of another shape, or a row without an end of text.
            ConfigError: position ids other than 0 to T - 1, which this tower does not take.
        """
        ids, config = _check_inputs(input_ids, position_ids), self.config
        wants_hidden, look, whole = (
            default if asked is None else asked
            for asked, default in (
                (output_hidden_states, config.output_hidden_states),
                (output_attentions, config.output_attentions),
                (return_dict, config.return_dict),
            )
        )
        found = self._compute(ids, attention_mask, every=wants_hidden or look, look=look)
        found["hidden_states"] = found["hidden_states"] if wants_hidden else None
        pooled, vectors = found.pop("pooled"), found.pop("vectors")
        if self.tower.projection is None:
            output = _import("transformers.modeling_outputs").BaseModelOutputWithPooling
            made = output(pooler_output=pooled, **found)
        else:
            output = _import("transformers.models.clip.modeling_clip").CLIPTextModelOutput
            made = output(text_embeds=vectors, **found)
        return made if whole else made.to_tuple()

    def _compute(
        self, ids: Tensor, mask: Tensor | None, *, every: bool, look: bool
    ) -> dict[str, Any]:
        """Run the tower: outputs by transformers' names, with all layers if `every`."""
        if every:
            states = self.tower.states(ids, look=look, mask=mask)
            names = {"last_hidden_state": states.last, "hidden_states": states.hidden}
            names["attentions"] = states.attention if look else None
            return names | {"pooled": states.pooled, "vectors": states.vectors}
        run = self.tower.outputs if torch.is_grad_enabled() else self.runtime.text_outputs
        found = run(ids, mask=mask)
        names = {"last_hidden_state": found.sequence, "hidden_states": None, "attentions": None}
        return names | {"pooled": found.pooled, "vectors": found.vectors}

    def load_adapter(
        self,
        *args: Any,
        adapter_state_dict: Mapping[str, Tensor] | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Become transformers' own class, which loads the adapter (`become_original`).

        diffusers calls it in `pipe.load_lora_weights`; the arguments are those of
        `PreTrainedModel.load_adapter`.
        """
        flat = self._become_original()
        if adapter_state_dict is not None:
            kwargs["adapter_state_dict"] = rename_keys(adapter_state_dict, flat=flat)
            kwargs["peft_config"] = rename_config(peft_config, flat=flat)
        elif peft_config is not None:
            kwargs["peft_config"] = peft_config
        return self.load_adapter(*args, **kwargs)  # that of the new class

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Become transformers' own class, with a new adapter of PEFT, to be trained."""
        config = rename_config(adapter_config, flat=self._become_original())
        self.add_adapter(config, adapter_name)  # that of the new class

    def _become_original(self) -> bool:
        """Returns whether the names of its layers do not begin with `text_model.`."""
        name = PLAIN if self.tower.projection is None else PROJECTED
        become_original(self, self.tower, getattr(_import("transformers"), name))
        return is_flat(self)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the same folder as transformers' class of this name, which can read it."""
        weights = {f"text.{name}": tensor for name, tensor in self.tower.state_dict().items()}
        config = ClipConfig(embed=_vector_size(self.tower), image=None, text=self.tower.config)
        cpu = {name: tensor.cpu() for name, tensor in weights.items()}
        checkpoint = Checkpoint(config=config, weights=cpu, image_spec=None, tokenizer_spec=None)
        write(checkpoint, Path(save_directory), "transformers", overwrite=True)


@cache
def _make_class(name: str) -> Any:
    """Make our class on top of `PreTrainedModel`, with the name of the class that it replaces.

    diffusers writes a component's module and class into `model_index.json`; with this name,
    transformers loads a saved pipeline.
    """
    library = _import("transformers")
    members = {"main_input_name": "input_ids", "config_class": library.CLIPTextConfig}
    return type(name, (_Wrapped, library.PreTrainedModel), members | {"__module__": "transformers"})


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as reason:
        raise MissingExtraError(
            f"a text encoder for diffusers is a {module} class, which cannot be imported "
            f"({reason}); `pip install diffusers transformers`."
        ) from reason


def _share_weights(tower: TextTower) -> TwoTowers:
    """Make a model with the same weights in the same memory; moving it leaves `tower` in place."""
    own = build(ClipConfig(embed=_vector_size(tower), image=None, text=tower.config))
    own.text_tower.load_state_dict(tower.state_dict(), assign=True)
    own.logit_scale = nn.Parameter(torch.tensor(0.0))  # one tower has no temperature
    return own


def _vector_size(tower: TextTower) -> int:
    return tower.config.width if tower.projection is None else tower.projection.shape[1]


def _make_config(tower: TextTower, start: int, pad: int) -> Any:
    """Make transformers' config: the same sizes, and the real id of the end of text."""
    c = tower.config
    return _import("transformers").CLIPTextConfig(
        vocab_size=c.vocabulary,
        hidden_size=c.width,
        intermediate_size=c.mlp,
        projection_dim=_vector_size(tower),
        num_hidden_layers=c.depth,
        num_attention_heads=c.heads,
        max_position_embeddings=c.context,
        hidden_act=c.activation,
        layer_norm_eps=c.eps,
        bos_token_id=start,
        eos_token_id=c.end_of_text,
        pad_token_id=pad,
        architectures=[PLAIN if tower.projection is None else PROJECTED],
    )


def _check_inputs(ids: Tensor | None, positions: Tensor | None) -> Tensor:
    if ids is None:
        raise ShapeError("a text encoder needs input_ids of shape (batch, tokens), got None.")
    ids = ids.view(-1, ids.shape[-1])
    counted = torch.arange(ids.shape[1], device=ids.device)
    if positions is not None and not bool((positions.to(ids.device) == counted).all()):
        raise ConfigError(
            "position_ids are not 0, 1, 2, ... in each row, and this encoder supports no others; "
            "leave them out."
        )
    return ids
