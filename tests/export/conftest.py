"""Tiny models, and one export of each kind that several tests look at."""

from collections.abc import Callable
from typing import Any

import pytest

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.engine import Clip
from ecliptic.export import Export, write_export
from tests import tiny

Clips = Callable[[str], Clip]
Exports = Callable[..., Export]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Load the tiny model of a kind, once."""
    found: dict[str, Clip] = {}

    def load(kind: str) -> Clip:
        if kind not in found:
            path = tmp_path_factory.mktemp("models") / kind
            write(tiny.checkpoint(kind), path)
            found[kind] = ecliptic.load(path)
        return found[kind]

    return load


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory, clips: Clips) -> Exports:
    """Export the tiny model of a kind, once."""
    found: dict[tuple[Any, ...], Export] = {}

    def export(kind: str, to: Any = "onnx", precisions: Any = ("fp32",)) -> Export:
        key = (kind, to, precisions)
        if key not in found:
            folder = tmp_path_factory.mktemp("exports") / f"{kind}-{to}"
            found[key] = write_export(clips(kind), folder, to, precisions)
        return found[key]

    return export
