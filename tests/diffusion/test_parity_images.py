"""SVD and IP-Adapter through `conditioner`: ours equals their image encoding."""

import inspect
from itertools import product
from typing import Any

import pytest
import torch

from ecliptic.errors import ConfigError
from tests import peers
from tests.diffusion import pipelines
from tests.diffusion.parity import check, ours, sides
from tests.engine.models import draw


def adapter(**options: Any) -> Any:
    return ours("ip-adapter", row="ip-adapter-alone", **options)


def draw_images(count: int) -> list[Any]:
    return [draw(seed, 50, 43) for seed in range(count)]


@pytest.mark.parametrize(("count", "videos"), [*product([1, 3], [1, 2])])
@pytest.mark.parametrize("source", ["encoders", "folder"])
def test_svd(count: int, videos: int, source: str) -> None:
    with torch.no_grad():
        wanted = pipelines.peer("svd")._encode_image(draw_images(count), "cpu", videos, True)
    found = ours("svd", source)(images=draw_images(count), images_per_prompt=videos)
    check(found, sides(image=wanted))
    both = torch.cat([found.negative.image, found.image])
    assert torch.equal(found.to_diffusers()["encoder_hidden_states"], both)


@pytest.mark.parametrize(("count", "images", "patches"), [*product([1, 3], [1, 2], [False, True])])
def test_ip_adapter(count: int, images: int, patches: bool) -> None:
    with torch.no_grad():
        image, none = pipelines.peer("ip-adapter").encode_image(
            draw_images(count), "cpu", images, patches
        )
    found = adapter()(images=draw_images(count), patches=patches, images_per_prompt=images)
    check(found, {"image": image, "negative.image": none})


def test_an_ip_adapter_folder_is_read_without_its_text_encoder() -> None:
    with torch.no_grad():
        image, none = pipelines.peer("ip-adapter").encode_image(draw_images(2), "cpu", 1, False)
    found = ours("ip-adapter", "folder")(images=draw_images(2))
    check(found, {"image": image, "negative.image": none})


@pytest.mark.parametrize("patches", [False, True])
def test_the_pipeline_takes_our_ip_adapter_keywords(patches: bool) -> None:
    found = adapter()(images=draw_images(2), patches=patches)
    keywords = found.to_diffusers()
    pipe = pipelines.peer("ip-adapter")
    pipe.check_inputs("a cat", 64, 64, None, **keywords)
    prepared = pipe.prepare_ip_adapter_image_embeds(
        None, keywords["ip_adapter_image_embeds"], "cpu", 1, True
    )
    assert torch.equal(prepared[0][0], found.negative.image)  # each (1, images, ...)
    assert torch.equal(prepared[0][1], found.image)


@pytest.mark.parametrize("family", ["svd", "wan-i2v"])
def test_patches_are_a_choice_of_the_ip_adapter_alone(family: str) -> None:
    with pytest.raises(ConfigError, match='patches is for "ip-adapter"'):
        ours(family)(images=draw_images(1), patches=True)


def test_wan_reads_the_patches_of_the_layer_before_the_last() -> None:
    pipe, found = pipelines.peer("wan-i2v"), ours("wan-i2v", "folder")(images=draw_images(2))
    with torch.no_grad():
        wanted = pipe.encode_image(draw_images(2), "cpu")
    check(found, {"image": wanted, "negative.image": wanted})
    given = found.to_diffusers()
    assert torch.equal(given["encoder_hidden_states_image"], found.image)
    forward = peers.diffusers().WanTransformer3DModel.forward
    assert set(given) <= set(inspect.signature(forward).parameters)


def test_wans_pipeline_takes_no_image_vectors_beside_its_image() -> None:
    """So the row gives the arguments of the transformer."""
    with pytest.raises(ValueError, match="Cannot forward both"):
        pipelines.peer("wan-i2v").check_inputs(
            "a", None, draw_images(1)[0], 64, 64, image_embeds=torch.zeros(1)
        )
