"""`load` of any layout gives the vectors of open_clip and transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import ecliptic
from ecliptic.checkpoints import Layout, write
from ecliptic.model import Activation
from tests import peers, tiny
from tests.engine.models import save
from tests.twins import UNIT, check_relative, check_unit

TEXTS = [
    "a cat",
    "",
    "A photo of TWO dogs &amp; a café 🐈 — 3.14",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen",
    "a cat",
]
PLAIN = [text.replace("&amp;", "&") for text in TEXTS]  # transformers keeps entities
LABELS = ["cat", "dog", "aeroplane"]


def photos() -> list[Image.Image]:
    """Three images of different shapes."""
    generator = np.random.default_rng(0)
    sizes = [(40, 51), (33, 32), (90, 64)]
    small = [generator.integers(0, 256, (5, 6, 3), dtype=np.uint8) for _ in sizes]
    return [Image.fromarray(a).resize(s, 2) for a, s in zip(small, sizes, strict=True)]


def write_model(kind: str, activation: Activation, layout: Layout, folder: Path) -> Path:
    path = folder / ("model.pt" if layout == "openai" else "model")
    return save(tiny.checkpoint(kind, activation), path, layout)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("kind", ["vit", "resnet", "odd"])
@torch.no_grad()
def test_open_clip_gives_the_same_from_strings_and_images(
    kind: str, activation: Activation, tmp_path: Path
) -> None:
    path, library = write_model(kind, activation, "open_clip", tmp_path), peers.open_clip()
    peer, _, prepare = library.create_model_and_transforms(f"local-dir:{path}")
    peer.eval()
    clip = ecliptic.load(path)
    tokens = library.tokenizer.SimpleTokenizer(context_length=16)
    text = peer.encode_text(tokens(TEXTS), normalize=True)
    image = peer.encode_image(torch.stack([prepare(i) for i in photos()]), normalize=True)
    check_close(clip.encode_text(TEXTS, overflow="truncate"), text)
    check_close(clip.encode_image(photos()), image)
    check_close(clip.similarity(TEXTS[:2], photos()), text[:2] @ image.T)
    labels = peer.encode_text(tokens(LABELS), normalize=True)
    wanted = (peer.logit_scale.exp() * image @ labels.T).softmax(dim=-1)
    torch.testing.assert_close(clip.classify(photos(), LABELS), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("kind", ["vit", "odd"])
@torch.no_grad()
def test_transformers_gives_the_same_from_strings_and_images(
    kind: str, activation: Activation, tmp_path: Path
) -> None:
    path, library = write_model(kind, activation, "transformers", tmp_path), peers.transformers()
    peer = library.CLIPModel.from_pretrained(path).eval()
    clip = ecliptic.load(path)
    tokenizer = library.CLIPTokenizer.from_pretrained(path)
    options: Any = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    text = peer.get_text_features(**tokenizer(PLAIN, **options)).pooler_output
    check_unit(clip.encode_text(PLAIN, normalize=False, overflow="truncate"), text)
    prepare = library.CLIPImageProcessorPil.from_pretrained(path)
    pixels = prepare(photos(), return_tensors="pt").pixel_values
    image = peer.get_image_features(pixel_values=pixels).pooler_output
    check_unit(clip.encode_image(photos(), normalize=False), image)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_every_layout_of_one_model_gives_the_same_vectors(kind: str, tmp_path: Path) -> None:
    layouts: list[Layout] = ["ecliptic", "openai", "open_clip", "transformers"]
    found = []
    for layout in layouts[: 4 if kind == "vit" else 3]:
        (tmp_path / layout).mkdir()
        clip = ecliptic.load(write_model(kind, "quick_gelu", layout, tmp_path / layout))
        found.append((clip.encode_text(TEXTS, overflow="truncate"), clip.encode_image(photos())))
    for text, image in found[1:]:
        check_close(text, found[0][0])  # not bit for bit: transposed tensors are summed
        check_close(image, found[0][1])  # in another order


def test_the_engine_gives_the_models_own_vectors(tmp_path: Path) -> None:
    """Batches, sorting, shared duplicates and the fast paths change nothing but rounding."""
    write(tiny.checkpoint("vit", "gelu"), tmp_path / "model")
    clip = ecliptic.load(tmp_path / "model")
    with torch.no_grad():
        tokens = clip.tokenize(TEXTS, overflow="truncate")
        text = clip.model.encode_text(tokens)
        image = clip.model.encode_image(torch.stack([clip.preprocess(i) for i in photos()]))
    for size in (1, 2, 64):
        found = clip.encode_text(TEXTS, normalize=False, overflow="truncate", batch_size=size)
        check_relative(found, text)
        check_relative(clip.encode_image(photos(), normalize=False, batch_size=size), image)


@pytest.mark.parametrize("size", [16, 48])
@torch.no_grad()
def test_another_image_size_gives_open_clips_vectors(size: int, tmp_path: Path) -> None:
    path, library = write_model("vit", "gelu", "open_clip", tmp_path), peers.open_clip()
    peer, _, prepare = library.create_model_and_transforms(
        f"local-dir:{path}", force_image_size=size
    )
    clip = ecliptic.load(path, image_size=size)
    pixels = torch.stack([prepare(image) for image in photos()])
    assert clip.preprocess(photos()[0]).shape == (3, size, size)
    check_close(clip.encode_image(photos()), F.normalize(peer.eval().encode_image(pixels)))


def check_close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=UNIT)
