"""Other programs can use an export: the program of the docs, and torch without ecliptic."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ecliptic
from ecliptic.export import write_export
from tests import tiny
from tests.export.conftest import Clips, Exports

ROOT = Path(__file__).parents[2]
DRAWINGS = ROOT / "src" / "ecliptic" / "report" / "drawings"
TEXTS = [
    "a photo of a cat",
    "",
    "  Two   Bicycles\tin the CAF\u00c9 &amp; the caf\u0065\u0301",
    "It's  42,000 \u201cquotes\u201d \u2026 &lt;b&gt; \U0001f98a \u65e5\u672c",
    "sch\u00c3\u00b6n aaaaaaa bananananas <|endoftext|>",
    "antidisestablishmentarianism " * 30,
]


def program_of_the_docs() -> str:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python no-run\n(import html.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert "import ecliptic" not in code
    return str(code)


def test_the_program_of_the_docs_gives_our_vectors_of_mini(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="pip install ecliptic[export]")
    clip = ecliptic.load("mini")
    write_export(clip, tmp_path / "onnx")
    shutil.copy(DRAWINGS / "cat.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(program_of_the_docs(), "docs/formats.md", "exec"), names)
    assert "'a cat': " in capsys.readouterr().out
    for drawing in sorted(DRAWINGS.glob("*.png"))[:6]:
        assert np.abs(names["make_pixels"](drawing) - clip.preprocess(drawing).numpy()).max() < 1e-5
    rows = [names["make_tokens"](line) for line in TEXTS]
    ours = clip.tokenize(TEXTS, "truncate").numpy()
    assert (names["pad"](rows) == ours[:, : max(map(len, rows))]).all()
    with torch.no_grad():
        texts, pictures = clip.encode_text(names["labels"]), clip.encode_image(["cat.png"])
    np.testing.assert_allclose(names["texts"], texts, atol=1e-5)
    np.testing.assert_allclose(names["pictures"], pictures, atol=1e-5)
    plain = clip.classify(["cat.png"], names["labels"], calibrated=False)
    np.testing.assert_allclose(names["probabilities"], plain, atol=1e-4)
    about = names["about"]
    assert about["space"] == clip.card.space
    assert about["calibration"]["temperature"] == clip.card.calibration.temperature  # type: ignore[union-attr]


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_the_steps_of_a_picture_name_what_the_model_needs(
    clips: Clips, tmp_path: Path, resize: Any
) -> None:
    spec = ecliptic.ImageSpec(32, mean=(0.5, 0.5, 0.5), interpolation="bilinear", resize=resize)
    from ecliptic.export.descriptions import describe_image
    from ecliptic.inputs import Preprocess

    told = describe_image(Preprocess(spec), 8)
    assert told["mean"] == [0.5, 0.5, 0.5]
    assert (told["size"], told["resize"], told["mode"]) == (32, resize, "reference")
    names = [step["step"] for step in told["steps"]]
    crop = ["crop"] if resize == "shortest" else []
    assert names == ["resize", *crop, "rgb", "scale", "normalize", "planes"]
    assert "bilinear" in told["steps"][0]["filter"]
    robust = describe_image(Preprocess(spec, "robust", icc="srgb"), 8)
    assert [s["step"] for s in robust["steps"]][:4] == ["upright", "depth", "profile", "flatten"]


def test_torch_programs_load_without_ecliptic_and_give_our_vectors(
    clips: Clips, exports: Exports, tmp_path: Path
) -> None:
    clip, made = clips("vit"), exports("vit", "torch")
    assert made.opset is None
    tokens = clip.tokenize(["a cat", "a dog", "x " * 40], "truncate")
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.save({"image": pixels, "text": tokens}, tmp_path / "inputs.pt")
    code = (
        "import sys, torch\n"
        "sys.modules['ecliptic'] = None\n"  # its import fails
        "inputs = torch.load('inputs.pt')\n"
        f"folder = {str(made.folder)!r}\n"
        "found = {}\n"
        "for name in ('image', 'text'):\n"
        "    run = torch.export.load(f'{folder}/{name}.pt2').module()\n"
        "    found[name] = [run(inputs[name][:n]).detach() for n in (1, 2, 3)]\n"
        "torch.save(found, 'found.pt')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    found = torch.load(tmp_path / "found.pt")
    ours = {"image": clip.runtime.image(pixels), "text": clip.runtime.text(tokens)}
    for name, batches in found.items():
        for count, vectors in enumerate(batches, start=1):
            torch.testing.assert_close(vectors, ours[name][:count], rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_every_kind_of_tower_is_a_torch_program(exports: Exports, kind: str) -> None:
    for file in exports(kind, "torch", ("fp32", "fp16")).files:
        assert file.agreement.cosine >= 0.9999


@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_no_file_names_a_folder_of_this_machine(exports: Exports, to: str) -> None:
    folder, places = exports("vit", to).folder, (str(ROOT).encode(), b"site-packages")
    for path in folder.iterdir():
        parts = [path.read_bytes()]
        if path.suffix == ".pt2":
            with zipfile.ZipFile(path) as archive:
                parts += [archive.read(name) for name in archive.namelist()]
        assert not [place for place in places for part in parts if place in part], path.name


def test_the_vocabulary_is_that_of_a_cut_tokenizer() -> None:
    from ecliptic.export.descriptions import describe_text

    told = json.loads(json.dumps(describe_text(tiny.CUT, 8)))
    assert (len(told["merges"]), len(told["vocabulary"])) == (20, tiny.CUT.vocabulary)
    assert told["vocabulary"][told["end_of_text"]] == "<|endoftext|>"
    assert told["input"]["length"] == [2, tiny.CUT.context]
    assert told["byte_names"][ord("a")] == "a"
    assert told["byte_names"][ord(" ")] == "\u0120"
