import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ecliptic.checkpoints import Checkpoint, Layout, read, write
from ecliptic.errors import CheckpointError, StorageError, UnsupportedLayoutError
from ecliptic.inputs import ImageSpec
from tests import tiny
from tests.checkpoints.test_open_clip import check_weights

ROOT = Path(__file__).parents[2]

# What each layout can hold; everything else is refused, with the part of the reason given here.
HOLDS = {
    "ecliptic": set(tiny.CONFIGS),
    "openai": {"vit", "resnet"},
    "open_clip": {"vit", "resnet", "odd"},
    "transformers": {"vit", "odd", "cut", "text", "unprojected", "image"},
}
BASIC = "its ResNets have bottlenecks, this one has basic blocks"
REASONS = {
    "openai": {
        "odd": "its readers take 0 heads in the image tower, this one has 4",
        "cut": "whole merge list, this model the first 20",
        "basic": BASIC,
        "text": "two towers",
        "unprojected": "two towers",
        "image": "two towers",
        "resnet_image": "two towers",
    },
    "open_clip": {
        "cut": "whole merge list",
        "basic": BASIC,
        "text": "two towers",
        "unprojected": "two towers",
        "image": "two towers",
        "resnet_image": "two towers",
    },
    "transformers": dict.fromkeys(("resnet", "resnet_image", "basic"), "this one is a ResNet"),
}
HELD = [(layout, kind) for layout, kinds in HOLDS.items() for kind in sorted(kinds)]
REFUSED = [(layout, kind) for layout, reasons in REASONS.items() for kind in reasons]


def path_for(folder: Path, layout: str) -> Path:
    return folder / ("model.pt" if layout == "openai" else "model")


def check_same(found: Checkpoint, wanted: Checkpoint) -> None:
    assert found.config == wanted.config
    assert found.image_spec == wanted.image_spec
    assert found.tokenizer_spec == wanted.tokenizer_spec
    check_weights(found.weights, wanted.weights)
    for name, tensor in wanted.weights.items():
        assert found.weights[name].dtype == tensor.dtype, name


@pytest.mark.parametrize(("layout", "kind"), HELD)
def test_what_a_layout_holds_reads_back_identical(
    layout: Layout, kind: str, tmp_path: Path
) -> None:
    checkpoint = tiny.checkpoint(kind)
    path = path_for(tmp_path, layout)
    assert write(checkpoint, path, layout) == ()
    found = read(path)
    check_same(found, checkpoint)
    assert found.layout == layout
    assert found.notes == ()


@pytest.mark.parametrize(("layout", "kind"), REFUSED)
def test_what_a_layout_cannot_hold_is_refused_with_the_reason(
    layout: Layout, kind: str, tmp_path: Path
) -> None:
    path = path_for(tmp_path, layout)
    with pytest.raises(UnsupportedLayoutError, match=REASONS[layout][kind]):
        write(tiny.checkpoint(kind), path, layout)
    assert not list(tmp_path.iterdir())


def test_only_what_is_wrong_with_basic_blocks_is_named(tmp_path: Path) -> None:
    """Head counts are those of bottlenecks, so nothing is said of them."""
    with pytest.raises(UnsupportedLayoutError) as refused:
        write(tiny.checkpoint("basic"), tmp_path / "model.pt", "openai")
    assert f"this checkpoint: {BASIC}. Save it with" in str(refused.value)


def test_every_layout_and_architecture_is_either_held_or_refused() -> None:
    for layout, kinds in HOLDS.items():
        assert kinds | set(REASONS.get(layout, ())) == set(tiny.CONFIGS)


@pytest.mark.parametrize("layout", HOLDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_kept(layout: Layout, dtype: torch.dtype, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("vit", dtype=dtype)
    path = path_for(tmp_path, layout)
    write(checkpoint, path, layout)
    check_same(read(path), checkpoint)


@pytest.mark.parametrize("layout", ["ecliptic", "open_clip", "transformers"])
def test_every_field_of_the_specs_is_kept(layout: Layout, tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("vit", activation="gelu")
    assert checkpoint.tokenizer_spec
    checkpoint = replace(
        checkpoint,
        image_spec=ImageSpec(32, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3), "bilinear", "squash"),
        tokenizer_spec=replace(checkpoint.tokenizer_spec, pad=49407),
    )
    write(checkpoint, tmp_path / "model", layout)
    check_same(read(tmp_path / "model"), checkpoint)


def test_an_openai_file_says_that_it_does_not_store_the_padding(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    assert checkpoint.tokenizer_spec
    padded = replace(checkpoint, tokenizer_spec=replace(checkpoint.tokenizer_spec, pad=49407))
    (note,) = write(padded, tmp_path / "model.pt", "openai")
    assert "padding id 49407" in note
    check_same(read(tmp_path / "model.pt"), checkpoint)


def test_an_openai_file_cannot_say_gelu_or_other_preprocessing(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedLayoutError, match="implies QuickGELU, the image tower uses GE"):
        write(tiny.checkpoint(activation="gelu"), tmp_path / "model.pt", "openai")
    squashed = replace(tiny.checkpoint(), image_spec=ImageSpec(size=32, resize="squash"))
    with pytest.raises(UnsupportedLayoutError, match="implies OpenAI's preprocessing"):
        write(squashed, tmp_path / "model.pt", "openai")


def test_one_activation_per_open_clip_config(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint()
    assert checkpoint.config.text
    text = replace(checkpoint.config.text, activation="gelu")
    mixed = replace(checkpoint, config=replace(checkpoint.config, text=text))
    with pytest.raises(UnsupportedLayoutError, match="one activation"):
        write(mixed, tmp_path / "model", "open_clip")
    write(mixed, tmp_path / "model", "transformers")
    check_same(read(tmp_path / "model"), mixed)


@pytest.mark.parametrize(
    ("name", "layout", "instead"),
    [
        ("out.pt", "ecliptic", 'layout "openai" writes'),
        ("out.bin", "ecliptic", 'layout "openai" writes'),
        ("out.safetensors", "transformers", 'layout "ecliptic" writes'),
        ("out.safetensors", "openai", 'layout "ecliptic" writes'),
        ("out.pt", "open_clip", 'layout "openai" writes'),
        ("out.ckpt", "open_clip", "no layout writes"),
    ],
)
def test_the_name_of_a_file_never_becomes_a_folder(
    name: str, layout: Layout, instead: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedLayoutError, match=instead):
        write(tiny.checkpoint(), tmp_path / name, layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["taken", "taken/model", "taken/model.safetensors"])
def test_a_file_in_the_place_of_a_folder_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(CheckpointError, match="cannot be a folder"):
        write(tiny.checkpoint("image"), tmp_path / place)


@pytest.mark.parametrize("layout", HOLDS)
def test_another_checkpoint_is_not_overwritten_unasked(layout: Layout, tmp_path: Path) -> None:
    first, second = tiny.checkpoint(seed=0), tiny.checkpoint(seed=1)
    path = path_for(tmp_path, layout)
    write(first, path, layout)
    write(first, path, layout)  # the same content is no change
    with pytest.raises(CheckpointError, match="overwrite=True"):
        write(second, path, layout)
    check_same(read(path), first)
    write(second, path, layout, overwrite=True)
    check_same(read(path), second)
    left = path.parent if path.is_file() else path
    assert not [entry for entry in left.iterdir() if entry.name.startswith(".")]


def test_a_folder_never_holds_two_layouts(tmp_path: Path) -> None:
    write(tiny.checkpoint(), tmp_path, "ecliptic")
    with pytest.raises(CheckpointError, match="another layout"):
        write(tiny.checkpoint(), tmp_path, "transformers", overwrite=True)


def test_e9_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tiny.checkpoint(), tmp_path / "model")

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(StorageError, match="no space"):
        write(tiny.checkpoint(seed=1), tmp_path / "model", overwrite=True)
    check_same(read(tmp_path / "model"), tiny.checkpoint())


def test_e9_a_killed_write_leaves_a_checkpoint_that_loads(tmp_path: Path) -> None:
    """Killed while it writes the weights, and while it writes the config after them."""
    write(tiny.checkpoint(), tmp_path / "model")
    for last in (1, 2):
        code = (
            "import os\nfrom tests import tiny\nfrom ecliptic.checkpoints import write\n"
            "from ecliptic.storage import replacing\n"
            f"left, sync = [{last}], os.fsync\n"
            "def kill(file):\n"
            "    left[0] -= 1\n"
            "    os.kill(os.getpid(), 9) if not left[0] else sync(file)\n"
            "replacing.os.fsync = kill\n"
            f"write(tiny.checkpoint(seed=1), {str(tmp_path / 'model')!r}, overwrite=True)\n"
        )
        ran = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT)
        assert ran.returncode == -9
        check_same(read(tmp_path / "model"), tiny.checkpoint())


def test_a_checkpoint_can_be_rewritten_over_the_file_it_is_mapped_from(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(tiny.checkpoint(), path)
    mapped = read(path)
    renamed = replace(mapped, name="another name")
    write(renamed, path, overwrite=True)
    assert read(path).name == "another name"
    check_same(mapped, tiny.checkpoint())
