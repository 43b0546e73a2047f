"""Released safety checkers: read from every form of their files, with the verdicts of diffusers."""

from pathlib import Path

import pytest
import torch
from torch import nn

from ecliptic.engine import load
from ecliptic.errors import (
    ConfigError,
    InputError,
    NumericalError,
    UnsupportedLayoutError,
    WeightsMismatchError,
)
from ecliptic.inputs import ImageSpec
from ecliptic.tasks import SafetyChecker
from tests import tiny
from tests.tasks.moderation import checkers


@pytest.mark.parametrize(("levels", "pickled"), [(1, False), (2, False), (2, True), (1, True)])
def test_verdicts_are_those_of_diffusers(levels: int, pickled: bool, tmp_path: Path) -> None:
    module = checkers.stable_diffusion()
    checkers.save(module, tmp_path / "checker", levels=levels, pickled=pickled)
    found = SafetyChecker.load(tmp_path / "checker", device="cpu")
    images = checkers.noise()
    verdicts = found.check(images)
    expected = module(checkers.pixels(images), images.copy())[1]
    assert [one.flagged for one in verdicts] == expected
    assert 0 < sum(expected) < len(expected)
    flagged = next(one for one in verdicts if one.flagged)
    assert flagged.action == "label"
    assert flagged.concepts[0].startswith("concept ")
    assert len(flagged.reasons) == 20
    assert flagged.reasons[0].score == flagged.reasons[0].margin > 0


def test_the_tower_is_a_clip_of_images(tmp_path: Path) -> None:
    module = checkers.stable_diffusion()
    checkers.save(module, tmp_path, levels=2)
    clip = load(tmp_path, device="cpu")
    pixels = tiny.pixels(tiny.checkpoint("image"))
    expected = module.visual_projection(module.vision_model(pixels)[1])
    torch.testing.assert_close(clip.model.encode_image(pixels), expected, atol=1e-5, rtol=1e-5)
    assert clip.card.layout == "safety_checker"
    assert clip.card.embed == checkers.E
    assert "no image processor" in " ".join(clip.card.notes)


def test_the_processor_of_a_pipeline_prepares_the_images(tmp_path: Path) -> None:
    checkers.save(checkers.stable_diffusion(), tmp_path / "safety_checker", levels=2)
    checkers.add_processor(tmp_path / "feature_extractor")
    (tmp_path / "model_index.json").write_text("{}")
    for path in (tmp_path, tmp_path / "safety_checker"):
        spec = SafetyChecker.load(path, device="cpu").clip.card.image_spec
        assert spec == ImageSpec(size=32, mean=(0.5,) * 3, std=(0.25,) * 3)


def test_a_file_without_its_config_is_read(tmp_path: Path) -> None:
    checkers.save(checkers.stable_diffusion(), tmp_path, levels=2)
    clip = load(tmp_path / "model.safetensors", heads=2, image_spec=ImageSpec(size=32))
    assert clip.card.config.image == tiny.checkpoint("image").config.image
    assert clip.card.layout == "safety_checker"


def test_deepfloyd_has_two_heads_on_raw_vectors(tmp_path: Path) -> None:
    module = checkers.deepfloyd()
    module.save_pretrained(tmp_path)
    found = SafetyChecker.load(tmp_path, device="cpu")
    images = checkers.noise()
    pixels = checkers.pixels(images)
    _, nsfw, watermark = module(pixels, images.copy())
    verdicts = found.check(images)
    assert ["nsfw" in one.concepts for one in verdicts] == nsfw
    assert ["watermark" in one.concepts for one in verdicts] == watermark
    assert 0 < sum(nsfw) < len(nsfw)
    raw = found.clip.encode_image(images, normalize=False)
    assert [one.action for one in found.check(raw)] == [one.action for one in verdicts]
    unit = nn.functional.normalize(raw)
    unit[0] = float("nan")
    with pytest.raises(ConfigError, match="these have length 1; pass the images"):
        found.check(unit)
    with pytest.raises(ConfigError, match="has no concepts"):
        found.scores(raw)


def test_what_cannot_be_used_is_never_allowed(tmp_path: Path) -> None:
    checkers.save(checkers.stable_diffusion(), tmp_path / "checker", levels=2)
    found = SafetyChecker.load(tmp_path / "checker", device="cpu")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (verdict,) = found.check([str(tmp_path / "broken.png")])
    assert verdict.action == "reject"
    assert verdict.flagged
    assert "broken.png" in verdict.error
    vectors = torch.ones(3, checkers.E)
    vectors[0, 0], vectors[1] = float("nan"), 0.0
    names = [one.action for one in found.check(vectors)]
    assert names[:2] == ["reject", "reject"]
    assert names[2] != "reject"
    with pytest.raises(ConfigError, match="3 images need as many names, got 2"):
        found.check(vectors, ["a", "b"])


def test_what_is_no_checker_or_damaged_is_refused(tmp_path: Path) -> None:
    from ecliptic.checkpoints import write

    write(tiny.checkpoint("image"), tmp_path / "clip", "transformers")
    with pytest.raises(UnsupportedLayoutError, match="is no safety checker"):
        SafetyChecker.load(tmp_path / "clip")
    module = checkers.stable_diffusion()
    module.concept_embeds.data[0, 0] = float("nan")
    checkers.save(module, tmp_path / "nan", levels=2)
    with pytest.raises(NumericalError, match="concept_embeds of the safety checker"):
        SafetyChecker.load(tmp_path / "nan", device="cpu")
    folder = checkers.save(checkers.stable_diffusion(), tmp_path / "less", levels=2)
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    for name in ("special_care_embeds", "visual_projection.weight"):
        save_file({n: x for n, x in state.items() if n != name}, folder / "model.safetensors")
        with pytest.raises(WeightsMismatchError, match=f"without {name}"):
            SafetyChecker.load(folder)


def test_a_checker_is_audited_as_rules_are(tmp_path: Path) -> None:
    checkers.save(checkers.stable_diffusion(), tmp_path / "sd", levels=2)
    checkers.deepfloyd().save_pretrained(tmp_path / "if")
    images = checkers.noise()
    truth = [number % 2 == 0 for number in range(24)]
    found = SafetyChecker.load(tmp_path / "sd", device="cpu")
    flagged = [one.flagged for one in found.check(images)]
    report = found.audit(images, truth, groups=["a"] * 12 + ["b"] * 12, prevalence=0.01)
    everything = report.slices[0]
    assert [part.group for part in report.slices] == ["all", "a", "b"]
    assert (everything.concept, everything.positives) == ("unsafe", 12)
    assert everything.found == sum(flagged[::2])
    assert everything.false_alarms == sum(flagged[1::2])
    assert report.rules == found.version
    heads = SafetyChecker.load(tmp_path / "if", device="cpu")
    (part,) = heads.audit(images, {"watermark": truth}).slices
    watermarked = ["watermark" in one.concepts for one in heads.check(images)]
    assert part.found == sum(watermarked[::2])
    with pytest.raises(InputError, match=r"none\.png cannot be measured"):
        found.audit([*images, tmp_path / "none.png"], [*truth, True])


def test_the_version_changes_with_the_heads(tmp_path: Path) -> None:
    checkers.save(checkers.stable_diffusion(), tmp_path, levels=2)
    found = SafetyChecker.load(tmp_path, device="cpu")
    other = SafetyChecker(found.clip, {**found.heads, "concept_embeds_weights": torch.ones(17)})
    assert found.version != other.version
    assert found.version in repr(found)
