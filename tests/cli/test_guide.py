"""`ecliptic guide` on a tiny pipeline of Stable Diffusion."""

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
    found = run("guide", str(tmp_path), "a red fox", "--decode", "fast", "-o", "x.jpg")
    assert "--out must end in .png" in found.stderr
