"""open_clip's zero_shot_classifier.py: one weight vector per class. N classes, E vector size."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ecliptic.compat.parts import unit
from ecliptic.errors import ConfigError

Template = str | Callable[[str], str]


@torch.no_grad()
def build_zero_shot_classifier(
    model: Any,
    tokenizer: Callable[[list[str]], Tensor],
    classnames: Sequence[str],
    templates: Sequence[Template],
    num_classes_per_batch: int | None = 10,
    device: str | torch.device = "cpu",
    use_tqdm: bool = False,  # noqa: ARG001 - part of the old signature
) -> Tensor:
    """(E, N) unit-length columns: the mean over templates of each class's unit vectors.

    Args:
        model: a model of `open_clip`.
        tokenizer: of the same model.
        classnames: names of the classes.
        templates: texts with `{}` for the name, or functions of it.
        num_classes_per_batch: how many to encode at once; None for all.
        device: where the model is.
        use_tqdm: not used; there is no progress bar.

    Raises:
        ConfigError: there is no class or no template.

    Source: Radford et al. 2021, arXiv:2103.00020, section 3.1.4; open_clip.
    """
    if not classnames or not templates:
        raise ConfigError("a classifier needs at least one class name and one template.")
    step = num_classes_per_batch or len(classnames)
    columns = []
    for start in range(0, len(classnames), step):
        names = classnames[start : start + step]
        texts = [_fill(template, name) for name in names for template in templates]
        vectors = model.encode_text(tokenizer(texts).to(device), normalize=True)
        columns.append(unit(vectors.unflatten(0, (len(names), -1)).mean(dim=1)))
    return torch.cat(columns).T


def _fill(template: Template, name: str) -> str:
    return template.format(name) if isinstance(template, str) else template(name)
