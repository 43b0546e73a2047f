"""The state of a run as tensors and plain facts, from which it goes on bit for bit.

Schedules, the data and its randomness are functions of the step, which is all there is of them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.errors import CheckpointError
from ecliptic.train.processes import fill, gather_whole
from ecliptic.train.stepping import Stepper, random_states, set_random_states

WEIGHTS, AVERAGE, OPTIMISER, RANDOM_STATE = "weights.", "average.", "optimiser.", "random."


def pack(stepper: Stepper, *, wanted: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a run by name, whole and on the CPU, and the numbers beside them.

    All processes must call it when each holds a share; those without `wanted` get no tensors.
    The state of the optimiser has the names of the parameters, not their places in its groups.
    """
    tensors = {WEIGHTS + name: w for name, w in stepper.trainee.state_dict().items()}
    for name, parameter in stepper.trainee.named_parameters():
        for key, value in stepper.optimiser.state.get(parameter, {}).items():
            tensors[f"{OPTIMISER}{key}.{name}"] = value
    facts: dict[str, Any] = {"skipped": stepper.skipped}
    if stepper.average is not None:
        tensors |= {AVERAGE + name: e for name, e in stepper.average.weights.items()}
        facts["averaged_steps"] = stepper.average.steps
    for number, state in enumerate(random_states()):
        tensors[f"{RANDOM_STATE}{number}"] = state
    return gather_whole(tensors, wanted=wanted, device="cpu"), facts


@torch.no_grad()
def unpack(stepper: Stepper, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Give `stepper` the state that `pack` returned.

    Raises:
        CheckpointError: it is the state of other settings.
    """
    weights = _select(tensors, WEIGHTS)
    _check_names(set(weights), set(stepper.trainee.state_dict()), "weights")
    for name, tensor in stepper.trainee.state_dict().items():
        fill(tensor, weights[name])
    _unpack_optimiser(stepper, _select(tensors, OPTIMISER))
    stepper.skipped = int(facts["skipped"])
    if stepper.average is not None:
        average = _select(tensors, AVERAGE)
        _check_names(set(average), set(weights), "averaged weights")
        stepper.average.load(int(facts["averaged_steps"]), average)
    set_random_states([_select(tensors, RANDOM_STATE)[str(i)] for i in range(_states(tensors))])


def _unpack_optimiser(stepper: Stepper, found: Mapping[str, Tensor]) -> None:
    trained = {n: p for n, p in stepper.trainee.named_parameters() if p.requires_grad}
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, tensor in found.items():
        kind, _, name = key.partition(".")
        by_name.setdefault(name, {})[kind] = tensor
    if by_name:  # empty before the first step
        _check_names(set(by_name), set(trained), "states of the optimiser")
    for name, states in by_name.items():
        stepper.optimiser.state[trained[name]] = {
            kind: _like(trained[name], tensor) for kind, tensor in states.items()
        }


def _like(parameter: nn.Parameter, state: Tensor) -> Tensor:
    """A state tensor on the device, and with the memory layout, of its parameter."""
    if state.shape != parameter.shape:
        return state.to(parameter.device)  # the count of steps
    found = torch.empty_like(parameter, requires_grad=False)
    fill(found, state)
    return found


def _states(tensors: Mapping[str, Tensor]) -> int:
    """Random states that are stored and that this machine has."""
    return min(len(_select(tensors, RANDOM_STATE)), len(random_states()))


def _select(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}


def _check_names(found: set[str], wanted: set[str], what: str) -> None:
    if found != wanted:
        odd = ", ".join(sorted(found ^ wanted)[:3])
        raise CheckpointError(
            f"the {what} are those of another model or other settings (different: {odd}); resume "
            "with the settings of the run."
        )
