"""Freezing of towers, by groups of parts, as open_clip's `lock` methods do it."""

from collections.abc import Iterator, Sequence

from torch import nn

Part = nn.Module | nn.Parameter | None  # None: a part that a script removed


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A batch norm that always uses its stored statistics."""

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":  # noqa: ARG002 - never trains
        """Stay in eval mode."""
        return super().train(False)


def freeze_but_last(groups: Sequence[Sequence[Part]], trained: int) -> None:
    """Set `requires_grad`: True in the last `trained` groups, False in the others."""
    first = max(0, len(groups) - trained)
    for place, group in enumerate(groups):
        for parameter in _parameters(group):
            parameter.requires_grad_(place >= first)


def _parameters(group: Sequence[Part]) -> Iterator[nn.Parameter]:
    for part in group:
        if isinstance(part, nn.Module):
            yield from part.parameters()
        elif part is not None:
            yield part


def freeze_norms(module: nn.Module) -> None:
    """Replace every batch norm inside `module` by one with fixed statistics and weights."""
    for name, child in module.named_children():
        if not isinstance(child, nn.BatchNorm2d):
            freeze_norms(child)
            continue
        frozen = FrozenBatchNorm2d(child.num_features, child.eps)
        frozen.load_state_dict(child.state_dict(), assign=True)
        setattr(module, name, frozen.requires_grad_(False).eval())
