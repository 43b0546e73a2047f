import json
from pathlib import Path

import pytest
import torch

from ecliptic.checkpoints import read, write
from ecliptic.checkpoints.identity.conform import native_shapes
from ecliptic.checkpoints.layouts.native import TABLE
from ecliptic.errors import CorruptFileError, WeightsMismatchError
from ecliptic.model import build
from tests import tiny

# What a text tower has to state.
TEXT = {"activation": "gelu", "end_of_text": 49407, "eps": 1e-5, "heads": 8}


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_one_file_says_as_much_as_a_folder(kind: str, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint(kind)
    write(checkpoint, tmp_path / "model.safetensors")
    write(checkpoint, tmp_path / "model")
    file, folder = read(tmp_path / "model.safetensors"), read(tmp_path / "model")
    assert file.config == folder.config == checkpoint.config
    assert file.tokenizer_spec == checkpoint.tokenizer_spec
    assert file.image_spec == checkpoint.image_spec
    assert file.name == folder.name == f"tiny-{kind}"


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_the_key_table_knows_every_tensor_of_the_model(kind: str) -> None:
    names = build(tiny.CONFIGS[kind]).state_dict()
    assert all(TABLE.foreign_names(name) == (name,) for name in names)
    assert native_shapes(tiny.CONFIGS[kind]).keys() <= names.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "reads 1 and 2; a newer ecliptic wrote it"),
        ({"config": {"embd": 3}}, "did you mean 'embed'"),
        ({"config": []}, "config must be a table"),
        ({"config": None}, "config must be a table"),
        ({"config": {}}, "does not say whether there is a tower for image"),
        ({"config": {"image": {"kind": ["vit"]}}}, "kind must be one of vit, resnet"),
        ({"config": {"image": None, "text": TEXT | {"width": -64}}}, "width must be"),
        ({"image_spec": {"size": "large"}}, "image_spec.size must be int"),
        ({"image_spec": {"std": [1.0, 1.0, 0.0]}}, "every std must be above 0"),
        ({"tokenizer_spec": []}, "tokenizer_spec must be a table"),
    ],
)
def test_a_damaged_card_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path)
    card = json.loads((tmp_path / "ecliptic.json").read_text())
    (tmp_path / "ecliptic.json").write_text(json.dumps(card | change))
    with pytest.raises(CorruptFileError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_what_no_shape_shows_is_never_left_to_a_default(kind: str, tmp_path: Path) -> None:
    """Another activation, eps or head count computes other vectors from the same weights."""
    write(tiny.checkpoint(kind), tmp_path)
    whole = (tmp_path / "ecliptic.json").read_text()
    for side in ("image", "text"):
        for field in ("activation", "end_of_text", "eps", "heads"):
            card = json.loads(whole)
            if card["config"][side].pop(field, None) is None:
                continue  # a ResNet has only heads to state
            (tmp_path / "ecliptic.json").write_text(json.dumps(card))
            with pytest.raises(CorruptFileError, match=rf"config\.{side} does not state {field}"):
                read(tmp_path)


def change_image(path: Path, **fields: object) -> None:
    card = json.loads((path / "ecliptic.json").read_text())
    card["config"]["image"] |= fields
    plain = {name: value for name, value in card["config"]["image"].items() if value is not None}
    card["config"]["image"] = plain
    (path / "ecliptic.json").write_text(json.dumps(card))


def test_a_resnet_that_does_not_state_its_blocks_has_bottlenecks(tmp_path: Path) -> None:
    write(tiny.checkpoint("resnet"), tmp_path)
    change_image(tmp_path, block=None)
    assert "block" not in (tmp_path / "ecliptic.json").read_text()
    found = read(tmp_path)
    assert found.config == tiny.checkpoint("resnet").config
    assert found.notes == ()


@pytest.mark.parametrize(("kind", "stated"), [("basic", None), ("resnet", "basic")])
def test_blocks_of_another_kind_than_stated_are_refused(
    kind: str, stated: str | None, tmp_path: Path
) -> None:
    write(tiny.checkpoint(kind), tmp_path)
    change_image(tmp_path, block=stated)
    with pytest.raises(WeightsMismatchError, match=r"stages\.0\.0\.conv3\.weight|conv1\.weight is"):
        read(tmp_path)


@pytest.mark.parametrize("block", ["wide", 1, ["basic"], {"basic": 1}])
def test_an_unknown_kind_of_block_is_a_damaged_file(block: object, tmp_path: Path) -> None:
    write(tiny.checkpoint("basic"), tmp_path)
    change_image(tmp_path, block=block)
    with pytest.raises(CorruptFileError, match=r"config\.image\.block.*bottleneck.*basic"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", '{"format": 1', "\udcff"])
def test_a_card_that_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    write(tiny.checkpoint("image"), tmp_path)
    (tmp_path / "ecliptic.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CorruptFileError, match=r"ecliptic\.json"):
        read(tmp_path)


def test_changing_what_was_read_never_changes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(tiny.checkpoint("image"), path)
    read(path).weights["image.projection"].zero_()
    expected = tiny.checkpoint("image").weights["image.projection"]
    assert torch.equal(read(path).weights["image.projection"], expected)
