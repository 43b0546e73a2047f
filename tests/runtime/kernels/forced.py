"""A runtime whose kernels are chosen by the test, not by a clock."""

from collections.abc import Sequence
from typing import Any

import pytest

from ecliptic.model import TwoTowers
from ecliptic.runtime import Runtime
from ecliptic.runtime.kernels import choosing, tower
from ecliptic.runtime.kernels.choosing import Kernel


def force(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[str, ...]]:
    """Let the kernel `name` be the quickest; returns the candidates of each measurement made."""
    asked: list[tuple[str, ...]] = []

    def measure(block: Any, found: Sequence[Kernel], rows: int) -> dict[str, float]:
        asked.append(tuple(kernel.name for kernel in found))
        return {kernel.name: 0.001 if kernel.name == name else 1.0 for kernel in found}

    monkeypatch.setattr(choosing, "_measure", measure)
    monkeypatch.setattr(tower, "_PATIENCE", 0)
    monkeypatch.setattr(choosing.Measurements, "_read", lambda self: {})  # what others measured
    return asked


def forced(
    monkeypatch: pytest.MonkeyPatch, model: TwoTowers, name: str, precision: str | None = None
) -> Runtime:
    """A runtime of `model` that uses the kernel `name` wherever it can."""
    force(monkeypatch, name)
    return Runtime(model, precision, kernels="auto")
