import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ecliptic.compat.open_clip.transform import AugmentationCfg, image_transform
from ecliptic.compat.pixels import CenterCrop, Normalize, Resize, ToPixels, ToTrainingPixels
from ecliptic.errors import ConfigError, ImageError, ShapeError
from ecliptic.inputs import ImageSpec
from tests import peers


def draw(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("size", [(80, 60), (60, 80), (33, 200), (300, 20), (24, 24)])
def test_crops_and_pixels_are_open_clips_under_one_seed(size: tuple[int, int]) -> None:
    peers.torchvision()
    transform = peers.open_clip().image_transform
    ours = ToTrainingPixels(ImageSpec(size=32))
    theirs = transform(32, is_train=True)
    for seed in range(5):
        torch.manual_seed(seed)
        found = ours(draw(*size))
        torch.manual_seed(seed)
        assert torch.equal(found, theirs(draw(*size)))


def test_evaluation_pixels_are_open_clips() -> None:
    peers.torchvision()
    theirs = peers.open_clip().image_transform(32, is_train=False)
    for size in ((80, 60), (33, 200)):
        assert torch.equal(ToPixels(ImageSpec(size=32))(draw(*size)), theirs(draw(*size)))


def test_evaluation_pixels_of_every_mode_are_open_clips() -> None:
    peers.torchvision()
    theirs = peers.open_clip().image_transform(32, is_train=False)
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        image = draw(50, 41).convert(mode)
        assert torch.equal(ToPixels(ImageSpec(size=32))(image), theirs(image))


@pytest.mark.parametrize("kind", ["bicubic", "bilinear"])
def test_steps_take_tensors_as_torchvisions_do(kind: str) -> None:
    T = peers.torchvision().transforms
    mode = T.InterpolationMode(kind)
    image = torch.from_numpy(np.asarray(draw(40, 30)).copy()).permute(2, 0, 1)
    for x in (image, image.float() / 255, image[None].float()):
        theirs = T.Resize(20, mode, antialias=True)(x)
        found = Resize(20, kind)(x)  # type: ignore[arg-type]
        assert found.dtype == theirs.dtype
        torch.testing.assert_close(found, theirs, atol=1, rtol=1e-4)
        for size in (16, 33, (50, 20)):
            assert torch.equal(CenterCrop(size)(x), T.CenterCrop(size)(x))
    for size in (16, 33, (50, 20)):
        found, wanted = CenterCrop(size)(draw(40, 31)), T.CenterCrop(size)(draw(40, 31))
        assert np.array_equal(np.asarray(found), np.asarray(wanted))
    with pytest.raises(ShapeError, match="put ToTensor before"):
        Normalize((0.5,), (0.5,))(image)


def test_files_are_opened_and_a_ready_tensor_goes_through(tmp_path: Path) -> None:
    prepare = ToPixels(ImageSpec(size=16))
    draw(20, 30).save(tmp_path / "a.png")
    assert torch.equal(prepare(tmp_path / "a.png"), prepare(draw(20, 30)))
    ready = torch.rand(3, 16, 16)
    assert torch.equal(prepare(ready), prepare.transforms[-1](ready))
    with pytest.raises(ImageError):
        prepare(tmp_path / "b.png")


def test_settings_of_a_transform_that_do_not_exist_are_refused() -> None:
    for wrong in (
        {"resize_mode": "longest"},
        {"interpolation": "random"},
        {"fill_color": 3},
        {"image_size": (20, 30)},
        {"aug_cfg": {"use_timm": True}},
        {"aug_cfg": AugmentationCfg(gray_scale_prob=0.2)},
    ):
        with pytest.raises(ConfigError):
            image_transform(**{"image_size": 20, "is_train": True, **wrong})


def test_data_loaders_can_send_them_to_other_processes() -> None:
    for kind in (ToPixels, ToTrainingPixels):
        torch.manual_seed(1)
        before = kind(ImageSpec(size=16))
        after = pickle.loads(pickle.dumps(before))
        torch.manual_seed(1)
        wanted = before(draw(20, 30))
        torch.manual_seed(1)
        assert torch.equal(after(draw(20, 30)), wanted)
        assert "(16, 16)" in repr(after)
