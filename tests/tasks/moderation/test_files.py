"""A moderator in a file: the same verdicts after loading; damage and other spaces are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ecliptic.engine import Clip
from ecliptic.errors import CorruptFileError, SpaceMismatchError, StorageError
from ecliptic.storage import read_safetensors
from ecliptic.tasks import Concept, Moderator
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


def change(path: Path, **fields: Any) -> None:
    """Change the JSON of a saved moderator."""
    file = read_safetensors(path)
    about = json.loads(file.metadata["ecliptic_moderator"]) | fields
    save_file(load_file(path), path, {"ecliptic_moderator": json.dumps(about)})


def test_damage_and_changes_by_hand_are_refused(
    moderator: Moderator, clip: Clip, tmp_path: Path
) -> None:
    path = tmp_path / "rules.safetensors"
    moderator.save(path)
    tensors = load_file(path)
    concepts = json.loads(read_safetensors(path).metadata["ecliptic_moderator"])["concepts"]
    lower = [{**one, "threshold": -1.0} for one in concepts]
    worse = [{**one, "positives": 9} for one in concepts]
    nameless = [{**one, "name": 3} for one in concepts]
    for fields, message in (
        ({"concepts": lower}, "was changed after it was written"),
        ({"concepts": worse}, "damaged moderator"),
        ({"concepts": nameless}, "damaged moderator"),
        ({"concepts": 7}, "damaged moderator"),
        ({"format": 2}, "has format 2, this ecliptic reads 1"),
    ):
        moderator.save(path, overwrite=True)
        change(path, **fields)
        with pytest.raises(CorruptFileError, match=message):
            Moderator.load(path, clip)
    moderator.save(path, overwrite=True)
    metadata = read_safetensors(path).metadata
    save_file({**tensors, "concepts.0.mean": torch.zeros(1)}, path, metadata)
    with pytest.raises(CorruptFileError, match="damaged moderator"):
        Moderator.load(path, clip)
    save_file(tensors, path)
    with pytest.raises(CorruptFileError, match="is no moderator"):
        Moderator.load(path, clip)
    with pytest.raises(StorageError, match="there is no file"):
        Moderator.load(tmp_path / "missing.safetensors", clip)
