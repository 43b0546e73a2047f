import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from ecliptic.compat.pixels import ToPixels, ToTrainingPixels
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


def test_data_loaders_can_send_them_to_other_processes() -> None:
    for kind in (ToPixels, ToTrainingPixels):
        torch.manual_seed(1)
        before = kind(ImageSpec(size=16))
        after = pickle.loads(pickle.dumps(before))
        torch.manual_seed(1)
        wanted = before(draw(20, 30))
        torch.manual_seed(1)
        assert torch.equal(after(draw(20, 30)), wanted)
        assert "size=16" in repr(after)
