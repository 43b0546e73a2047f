"""The usual script that computes a CLIP score by hand gives what `ecliptic score` gives."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ecliptic.checkpoints import write
from ecliptic.cli.main import app
from ecliptic.compat import clip
from tests import tiny

CAPTIONS = ["a cat", "two dogs", "a red car"]


def compute_clip_score(
    image: Image.Image, text: str, model: Any, preprocess: Any, device: str = "cpu"
) -> float:
    """The cosine of an image and a text, as scripts on openai/CLIP compute it."""
    pixels = preprocess(image).unsqueeze(0).to(device)
    tokens = clip.tokenize([text], context_length=model.context_length).to(device)
    with torch.no_grad():
        image_features = model.encode_image(pixels)
        text_features = model.encode_text(tokens)
    image_features /= image_features.norm(dim=-1, keepdim=True)
    text_features /= text_features.norm(dim=-1, keepdim=True)
    return float((image_features * text_features).sum())


def test_the_script_and_the_command_give_the_same_numbers(tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pt"
    write(tiny.checkpoint("vit"), checkpoint, layout="openai")
    lines = []
    for seed, caption in enumerate(CAPTIONS):
        noise = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{seed}.png")
        lines.append(json.dumps({"image": f"{seed}.png", "caption": caption}) + "\n")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(lines), encoding="utf-8")

    model, preprocess = clip.load(checkpoint, device="cpu")
    by_hand = [
        compute_clip_score(Image.open(tmp_path / f"{i}.png"), caption, model, preprocess)
        for i, caption in enumerate(CAPTIONS)
    ]

    out = tmp_path / "scores.jsonl"
    words = [
        "score",
        pairs,
        "--metric",
        "clip-t",
        "--model",
        checkpoint,
        "--per-item",
        out,
        "--json",
    ]
    found = CliRunner().invoke(app, list(map(str, words)))
    assert found.exit_code == 0, found.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["score"] for row in rows] == pytest.approx(by_hand, abs=2e-6)
    assert json.loads(found.stdout)["mean"] == pytest.approx(np.mean(by_hand), abs=2e-6)
