"""`ecliptic guide` on a tiny pipeline of Stable Diffusion."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from tests.cli.conftest import Run
from tests.guidance.pipelines import tiny_pipelines


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline") / "sd1"
    tiny_pipelines.pipe("sd1").save_pretrained(folder)
    return folder


def test_a_pipeline_is_guided(run: Run, pipeline: Path) -> None:
    common = ("guide", str(pipeline), "a red fox", "--steps", "3", "--count", "2", "--cutouts", "2")
    for scale, name in (("0", "a.png"), ("0", "b.png"), ("500", "c.png")):
        found = run(*common, "--scale", scale, "--out", name)
        assert found.exit_code == 0, found.stderr
        assert f"2 pictures in {name}" in found.stderr
    plain, again, pulled = (Image.open(name) for name in ("a.png", "b.png", "c.png"))
    assert ImageChops.difference(plain, again).getbbox() is None
    assert ImageChops.difference(plain, pulled).getbbox() is not None


def test_other_folders_are_refused(run: Run, tmp_path: Path) -> None:
    found = run("guide", str(tmp_path), "a red fox")
    assert found.exit_code == 1
    assert "has no model_index.json, so it is no folder of a pipeline" in found.stderr
    found = run("guide", str(tmp_path / "nowhere"), "a red fox")
    assert "there is no folder" in found.stderr
    for flags, message in (
        (("-o", "x.jpg"), "--out must end in .png"),
        (("--decode", "fast"), "decode must be one of vae, tiled, linear, got 'fast'"),
        (("--scale", "nan"), "scale must be finite"),
    ):
        found = run("guide", str(tmp_path), "a red fox", *flags)
        assert found.exit_code == 2
        assert message in " ".join(found.stderr.split())


def test_an_empty_prompt_is_a_prompt(run: Run, pipeline: Path) -> None:
    common = ("guide", str(pipeline), "a red fox", "--steps", "2", "--cutouts", "1")
    for name, flags in (("a.png", ()), ("b.png", ("--prompt", ""))):
        assert run(*common, *flags, "--out", name).exit_code == 0
    assert ImageChops.difference(Image.open("a.png"), Image.open("b.png")).getbbox() is not None


def test_without_a_working_diffusers_it_is_an_error_and_no_traceback(pipeline: Path) -> None:
    """In a process of its own, since the tests mend torchvision for diffusers."""
    code = (
        "import sys, importlib.abc\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('diffusers.'):\n"
        "            raise RuntimeError('no operator torchvision::nms')\n"
        "sys.meta_path.insert(0, Block())\n"
        "from ecliptic.cli import run\n"
        f"sys.argv = ['ecliptic', 'guide', {str(pipeline)!r}, 'a cat']\n"
        "run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr
