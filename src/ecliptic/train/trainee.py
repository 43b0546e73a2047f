"""The model of a run: its weights, what of them is trained, and how it encodes a batch.

B pairs, E vector size.
"""

import functools
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ecliptic.checkpoints import Checkpoint
from ecliptic.engine import open_checkpoint
from ecliptic.errors import ConfigError, MissingTowerError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ModifiedResNet, TwoTowers, build, random_model
from ecliptic.runtime import Runtime
from ecliptic.train.batch import Batch
from ecliptic.train.concepts import Proxies
from ecliptic.train.layers import (
    AnyTower,
    blocks_of,
    check_frozen,
    frozen_modules,
    layered_parameters,
)
from ecliptic.train.settings import RANDOM, SigLIPConfig, TrainSettings

GROUPS = 8  # of texts in a batch, by length


class Trainee(nn.Module):
    """A model in training.

    Args:
        model: both towers, float32 weights.
        bias: of the sigmoid loss, at the start; None: the loss has none.
    """

    def __init__(self, model: TwoTowers, bias: float | None = None) -> None:
        super().__init__()
        self.model = model
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        self.proxies: Proxies | None = None  # of the loss, beside the model
        self._runtime = Runtime(model)
        self.text_groups = GROUPS
        self._still: list[nn.Module] = []  # modules that stay in eval mode

    def forward(self, batch: Batch) -> tuple[Tensor, ...]:
        """Unit vectors in float32, logit_scale, and the bias if the loss has one.

        The vectors are those of images (B, E), of texts (B, E), of negatives (M, E), and of the
        text pairs (2 P, E), row by row as in the batch.
        """
        found = self._encode_images(batch), *self._encode_all_texts(batch)
        vectors = (F.normalize(v.float(), dim=-1) for v in found)
        bias = () if self.logit_bias is None else (self.logit_bias,)
        return (*vectors, self.model.logit_scale, *bias)

    def train(self, mode: bool = True) -> "Trainee":
        """As `Module.train`; what is frozen stays in eval mode."""
        super().train(mode)
        for module in self._still:
            module.eval()
        return self

    def freeze(self, settings: TrainSettings) -> None:
        """Stop the gradients of all that `settings` does not train.

        Raises:
            ConfigError: more layers than a tower has, or nothing would be trained.
        """
        for name, tower in self.towers().items():
            layers = getattr(settings, name).freeze_layers
            check_frozen(tower, layers, name)
            if settings.trains not in ("all", name):
                if layers:
                    raise ConfigError(
                        f'{name}.freeze_layers has no effect with trains = "{settings.trains}", '
                        "which freezes the whole tower; leave it out."
                    )
                tower.requires_grad_(False)
                self._still.append(tower)
                continue
            for layer, _, parameter in layered_parameters(tower):
                parameter.requires_grad_(layer >= layers)
            self._still += frozen_modules(tower, layers)
        self.train(self.training)

    def towers(self) -> dict[str, AnyTower]:
        """The two towers by the name of their settings."""
        return {"image": self.model.image_tower, "text": self.model.text_tower}

    def checkpoint_blocks(self, settings: TrainSettings) -> None:
        """Recompute blocks in the backward pass, where `settings` ask for it.

        Raises:
            ConfigError: a ResNet, whose batch norms would count each batch twice.
        """
        for name, tower in self.towers().items():
            if not getattr(settings, name).checkpointing:
                continue
            if isinstance(tower, ModifiedResNet):
                raise ConfigError(
                    f"{name}.checkpointing needs a transformer: the batch norms of a ResNet would "
                    "count every batch twice; set micro for less memory, or leave it out."
                )
            for block in blocks_of(tower):
                block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)

    def moving_norms(self) -> list[str]:
        """Names of the batch norms whose statistics the training moves."""
        norms = (
            m for m in self.named_modules() if isinstance(m[1], nn.modules.batchnorm._BatchNorm)
        )
        return [name for name, module in norms if module.training]

    def _encode_images(self, batch: Batch) -> Tensor:
        device = self.model.logit_scale.device
        pixels = batch.normalised(device).contiguous(memory_format=torch.channels_last)
        if _is_frozen(self.model.image_tower):
            return self._runtime.image(pixels).clone()  # no inference tensor
        return self.model.encode_image(pixels)

    def _encode_all_texts(self, batch: Batch) -> tuple[Tensor, ...]:
        """Vectors of texts (B, E), negatives (M, E) and text pairs (2 P, E), by one pass for all.

        With sharded weights all processes must make the same passes, those without negatives too.
        """
        more = [extras for extras in (batch.negatives, batch.pairs) if extras is not None]
        every = batch.tokens, *(extras.tokens for extras in more)
        longest = max(tokens.shape[1] for tokens in every)
        padded = [F.pad(tokens, (0, longest - tokens.shape[1])) for tokens in every]
        lengths = torch.cat([batch.lengths, *(extras.lengths for extras in more)])
        found = self._encode_texts(torch.cat(padded), lengths)
        counts = [0 if e is None else len(e.tokens) for e in (batch.negatives, batch.pairs)]
        return torch.split(found, [len(batch.tokens), *counts])

    def _encode_texts(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(B, E) raw vectors of tokens (B, T), in groups of similar length to skip the padding.

        The result is exact: attention is causal, so padding after a text cannot change its vector.
        """
        device = self.model.logit_scale.device
        if _is_frozen(self.model.text_tower) and len(tokens):
            return self._runtime.text(tokens.to(device)).clone()
        order = lengths.argsort()
        parts = []
        for rows in torch.tensor_split(order, max(1, min(self.text_groups, len(order)))):
            longest = int(lengths[rows].max()) if len(rows) else tokens.shape[1]
            parts.append(self.model.encode_text(tokens[rows, :longest].to(device)))
        return torch.cat(parts)[order.argsort().to(device)]


def _is_frozen(tower: AnyTower) -> bool:
    return not any(parameter.requires_grad for parameter in tower.parameters())


def open_start(
    settings: TrainSettings, model_file: Path | None = None
) -> tuple[Trainee, ImageSpec, TokenizerSpec]:
    """The weights that a run starts with, in float32 and in training mode, and their inputs.

    Args:
        settings: of the run.
        model_file: a model of the run, to open in place of `settings.start`.

    Raises:
        UnknownModelError, CheckpointError: the start cannot be loaded.
        ConfigError: it has one tower only, or the settings freeze too much.
    """
    bias = settings.loss.bias if isinstance(settings.loss, SigLIPConfig) else None
    if settings.start == RANDOM and model_file is None:
        model = random_model(settings.sizes, settings.seed)
        if isinstance(settings.loss, SigLIPConfig):
            model.logit_scale.data.fill_(settings.loss.scale)
        specs: tuple[Any, Any] = settings.pixels, settings.tokens
    else:
        found = open_checkpoint(model_file or settings.start)
        model, specs = copy_model(found), (found.image_spec, found.tokenizer_spec)
        if None in (model.image, model.text, *specs):
            raise MissingTowerError(
                f"{settings.start} has one tower only, but contrastive training needs both; start "
                "from a full CLIP."
            )
    trainee = Trainee(model, bias)
    trainee.freeze(settings)
    trainee.checkpoint_blocks(settings)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions
    return trainee.train(), *specs


def copy_model(found: Checkpoint) -> TwoTowers:
    """The model of a checkpoint with float32 weights of its own, which training may change."""
    model = build(found.config).to_empty(device="cpu")
    with torch.no_grad():
        model.load_state_dict(found.weights)  # copies, and casts to float32
    return model
