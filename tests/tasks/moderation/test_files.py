"""A moderator in a file: the same verdicts after loading; damage and other spaces are refused."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ecliptic.engine import Clip
from ecliptic.errors import CorruptFileError, SpaceMismatchError, StorageError
from ecliptic.tasks import Concept, Moderator
from ecliptic.tasks.moderation.rulesets import FORMAT
from tests.tasks.moderation.samples import FOOD, WEAPONS, labelled, noise


@pytest.fixture
def moderator(clip: Clip) -> Moderator:
    rows, truth = labelled(clip, 60, 60)
    found = Moderator(clip, [replace(WEAPONS, threshold=None), FOOD], reference=noise(40))
    return found.fit(rows, {"weapons": truth}, recall=0.9)


def test_what_is_saved_decides_the_same(moderator: Moderator, clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "rules.safetensors"
    moderator.save(path)
    found = Moderator.load(path, clip)
    assert found.version == moderator.version
    assert found.concepts == moderator.concepts
    assert found.ruleset.tunings == moderator.ruleset.tunings
    assert found.check(noise(50, 3)) == moderator.check(noise(50, 3))
    with pytest.raises(StorageError, match="exists; choose another path, or pass overwrite=True"):
        moderator.save(path)
    moderator.save(path, overwrite=True)
    with pytest.raises(StorageError, match=r"must end in \.safetensors"):
        moderator.save(tmp_path / "rules.toml")


def test_another_space_is_refused(moderator: Moderator, other_clip: Clip, tmp_path: Path) -> None:
    moderator.save(tmp_path / "rules.safetensors")
    with pytest.raises(SpaceMismatchError, match="load that model, or make the moderator again"):
        Moderator.load(tmp_path / "rules.safetensors", other_clip)


def test_rules_are_read_from_toml(clip: Clip, swords: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(
        f'[[concepts]]\nname = "weapons"\nexamples = ["{swords.as_posix()}"]\nthreshold = 0.999\n'
    )
    found = Moderator.from_rules(tmp_path / "rules.toml", clip)
    assert [one.action for one in found.check(sorted(swords.iterdir()))] == ["label"] * 3
    assert (
        found.version
        == Moderator(clip, [Concept("weapons", examples=(str(swords),), threshold=0.999)]).version
    )


def change(path: Path, tensors: dict[str, torch.Tensor] | None = None, **fields: Any) -> None:
    """Change a saved moderator as somebody would who knows how its checksum is made."""
    about, held = FORMAT.read(path)
    FORMAT.write(path, about | fields, held | (tensors or {}), overwrite=True)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        *itertools.product(["vectors", "mean", "deviation"], [math.nan, math.inf]),
        *(("vectors", 0.0), ("vectors", 1.0), ("deviation", 0.0), ("deviation", -1.0)),
    ],
)
def test_vectors_that_would_allow_everything_are_refused(
    part: str, value: float, moderator: Moderator, clip: Clip, tmp_path: Path
) -> None:
    path = tmp_path / "rules.safetensors"
    moderator.save(path)
    name = f"concepts.0.{part}"
    change(path, {name: torch.full_like(load_file(path)[name], value)})
    with pytest.raises(CorruptFileError, match=r"must be finite|have length 1|must be above 0"):
        Moderator.load(path, clip)


def test_damage_is_named(moderator: Moderator, clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "rules.safetensors"
    moderator.save(path)
    tensors = load_file(path)
    concepts = FORMAT.read(path)[0]["concepts"]
    for fields, message in (
        ({"concepts": [{**one, "positives": 9} for one in concepts]}, "damaged moderator"),
        ({"concepts": [{**one, "name": 3} for one in concepts]}, "damaged moderator"),
        ({"concepts": 7}, "damaged moderator"),
        ({"references": -math.inf}, "damaged moderator"),
    ):
        moderator.save(path, overwrite=True)
        change(path, **fields)
        with pytest.raises(CorruptFileError, match=message):
            Moderator.load(path, clip)
    moderator.save(path, overwrite=True)
    change(path, {"concepts.0.mean": torch.zeros(1)})
    with pytest.raises(CorruptFileError, match="damaged moderator"):
        Moderator.load(path, clip)
    save_file(tensors, path)
    with pytest.raises(CorruptFileError, match="is no moderator"):
        Moderator.load(path, clip)
    with pytest.raises(StorageError, match="there is no file"):
        Moderator.load(tmp_path / "missing.safetensors", clip)
