"""Tiny models, and one export of each kind that several tests look at."""

from collections.abc import Callable
from pathlib import Path

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
    """Export the tiny model of a kind in both precisions, once."""
    found: dict[tuple[str, str], Export] = {}

    def export(kind: str, to: str = "onnx") -> Export:
        if (kind, to) not in found:
            folder: Path = tmp_path_factory.mktemp("exports") / f"{kind}-{to}"
            found[kind, to] = write_export(clips(kind), folder, to, ("fp32", "fp16"))  # type: ignore[arg-type]
        return found[kind, to]

    return export
