"""Changes to the modules of a pipeline that end with a block, whatever happens inside it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.errors import ConfigError

ForwardAnswer = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def answering(module: nn.Module, answer: ForwardAnswer) -> Iterator[None]:
    """Let `answer(forward, args, kwargs)` be the forward of a module within the block.

    The module itself stays where it is, so its config, device, hooks and type are as before.

    Raises:
        ConfigError: a guided run of the same module is going on.
    """
    held = vars(module).get("forward")
    forward = module.forward
    if getattr(forward, "guides", False):
        raise ConfigError(
            "the pipeline is in the middle of a guided run; call `guided` again when that has "
            "ended, not from a callback."
        )

    def guided_forward(*args: Any, **kwargs: Any) -> Any:
        return answer(forward, args, kwargs)

    guided_forward.guides = True  # type: ignore[attr-defined]
    module.forward = guided_forward
    try:
        yield
    finally:
        if held is None:
            del module.forward
        else:
            module.forward = held


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """No gradients for weights within the block: they are not needed and cost memory."""
    weights = [p for module in modules for p in module.parameters() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def usable(value: Any) -> Any:
    """Arguments that can be part of a gradient; tensors of inference mode are copied."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if type(value) is dict:
        return {key: usable(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(usable(each) for each in value)
    return value


def widened(prediction: Tensor) -> Tensor:
    """In float32, or float64 if it is that."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))
