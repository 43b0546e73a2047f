"""Template sets are complete, and a template without a place for the label is refused."""

import json
from pathlib import Path

import pytest

from ecliptic.errors import ConfigError
from ecliptic.inputs import fill, template_sets, templates

PROMPTS = Path(__file__).parents[3] / "shared/artefacts/openai_clip/prompts.json"


@pytest.mark.skipif(not PROMPTS.exists(), reason="needs OpenAI's prompts.json in ../shared")
def test_imagenet_templates_are_openais() -> None:
    released = json.loads(PROMPTS.read_text())["ImageNet"]["templates"]
    assert list(templates("imagenet")) == released


def test_the_seven_best_are_of_the_eighty() -> None:
    assert len(templates("imagenet")) == 80
    assert len(templates("imagenet7")) == 7
    assert set(templates("imagenet7")) < set(templates("imagenet"))


@pytest.mark.parametrize("name", template_sets())
def test_every_template_takes_a_label(name: str) -> None:
    prompts = fill(templates(name), "red cat")
    assert len(prompts) == len(templates(name)) == len(set(prompts))
    assert all("red cat" in prompt for prompt in prompts)


def test_other_braces_and_labels_with_braces_stay() -> None:
    assert fill(["{x} {} and {}"], "a{}b") == ["{x} a{}b and a{}b"]


def test_a_mistyped_set_is_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean 'imagenet'"):
        templates("imagent")
    with pytest.raises(ConfigError, match="choose from plain, photo"):
        templates("zzz")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["a photo of a {}.", "a photo"], "template 'a photo' has no {}"),
        ([], "the list of templates is empty"),
        ("a photo of a {}", "must be a list of texts"),
    ],
)
def test_bad_templates_are_refused(wrong: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fill(wrong, "cat")
