"""open_clip's loss.py: the contrastive loss. B batch of this process, E vector size."""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import ConfigError


class ClipLoss(nn.Module):
    """Symmetric cross entropy of unit vectors, over all processes if there are several."""

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
    ) -> None:
        """Take open_clip's arguments.

        Args:
            local_loss: compare the vectors of this process with all, not all with all.
            gather_with_grad: gradients flow to the other processes too.
            cache_labels: not used; the labels cost nothing.
            rank: number of this process.
            world_size: count of processes.
            use_horovod: must be False.

        Raises:
            ConfigError: `use_horovod` is asked for.
        """
        super().__init__()
        if use_horovod:
            raise ConfigError("use_horovod=True is not supported; use torch.distributed.")
        self.local_loss, self.gather_with_grad = local_loss, gather_with_grad
        self.cache_labels, self.rank, self.world_size = cache_labels, rank, world_size

    def get_ground_truth(self, device: torch.device, num_logits: int) -> Tensor:
        """The column of each row's own pair."""
        first = num_logits * self.rank if self.world_size > 1 and self.local_loss else 0
        return torch.arange(first, first + num_logits, device=device)

    def get_logits(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of images against texts, and of texts against images."""
        images, texts = image_features, text_features
        if self.world_size > 1:
            images, texts = self._gather(images), self._gather(texts)
        if self.local_loss:
            pairs = image_features @ texts.T, text_features @ images.T
        else:
            pairs = images @ texts.T, texts @ images.T
        bias = 0 if logit_bias is None else logit_bias
        return logit_scale * pairs[0] + bias, logit_scale * pairs[1] + bias

    def _gather(self, vectors: Tensor) -> Tensor:
        """(B, E) of every process, in their order."""
        import torch.distributed.nn  # missing in some builds of torch

        if self.gather_with_grad:
            return torch.cat(torch.distributed.nn.all_gather(vectors))  # type: ignore[no-untyped-call]
        gathered = [torch.zeros_like(vectors) for _ in range(self.world_size)]
        torch.distributed.all_gather(gathered, vectors)
        if not self.local_loss:
            gathered[self.rank] = vectors  # with its gradient
        return torch.cat(gathered)

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: Tensor,
        logit_bias: Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """The loss of (B, E) unit vectors, row i of both being one pair; `logit_scale` is exp."""
        found = self.get_logits(image_features, text_features, logit_scale, logit_bias)
        labels = self.get_ground_truth(image_features.device, len(found[0]))
        loss = (F.cross_entropy(found[0], labels) + F.cross_entropy(found[1], labels)) / 2
        return {"contrastive_loss": loss} if output_dict else loss


def create_loss(args: argparse.Namespace) -> ClipLoss:
    """The loss for the arguments of open_clip's training command.

    Raises:
        ConfigError: they ask for a loss other than the contrastive one.
    """
    given = vars(args)
    unsupported = [name for name in ("distill", "siglip") if given.get(name)]
    if unsupported or "coca" in str(given.get("model", "")).lower():
        raise ConfigError(
            f"the loss for {', '.join(unsupported) or 'CoCa'} is not supported; only CLIP's "
            "contrastive loss is."
        )
    return ClipLoss(
        local_loss=bool(given.get("local_loss")),
        gather_with_grad=bool(given.get("gather_with_grad")),
        cache_labels=True,
        rank=given.get("rank", 0),
        world_size=given.get("world_size", 1),
        use_horovod=bool(given.get("horovod")),
    )
