"""Prompt templates: turn one label into several sentences, whose vectors are averaged.

The sets are in `templates.toml`. An ensemble of sentences classifies better than the label alone:
Radford et al. 2021, arXiv:2103.00020, section 3.1.4. The engine encodes the sentences.
"""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from ecliptic.errors import ConfigError, did_you_mean

PLACE = "{}"  # where the label goes
Template = str | Callable[[str], str]  # a text with PLACE, or a function of the label


def template_sets() -> tuple[str, ...]:
    """Names of the template sets."""
    return tuple(_read_sets())


def templates(name: str) -> tuple[str, ...]:
    """The templates of the set `name`; ConfigError if there is no such set."""
    if name in _read_sets():
        return _read_sets()[name]
    fix = did_you_mean(name, template_sets()) or f"choose from {', '.join(template_sets())}."
    raise ConfigError(f"no template set is called {name!r}; {fix}")


def fold_label(label: str) -> str:
    """What the tokenizer makes no difference between is equal: letter case and white space."""
    return " ".join(label.lower().split())


def fill(templates: Sequence[Template], label: str) -> list[str]:
    """Replace every `{}` of each template by `label`; other braces stay as they are.

    Raises:
        ConfigError: as `check_templates`, or a function that gives no text.
    """
    check_templates(templates)
    return [_fill(template, label) for template in templates]


def _fill(template: Template, label: str) -> str:
    if isinstance(template, str):
        return template.replace(PLACE, label)
    text = template(label)
    if not isinstance(text, str):
        raise ConfigError(
            f"a template that is a function must return a text, but gave {type(text).__name__} "
            f"for {label!r}."
        )
    return text


def check_templates(templates: Sequence[Template]) -> None:
    """Raise ConfigError unless `templates` is a list of texts with `{}`, or of functions."""
    if isinstance(templates, str):
        raise ConfigError(
            f"templates must be a list of texts, not a single text; pass [{templates!r}]."
        )
    if not isinstance(templates, Iterable):
        raise ConfigError(
            f"templates must be a list, got {type(templates).__name__}; put a single one into a "
            "list."
        )
    if not templates:
        raise ConfigError(
            f'the list of templates is empty; pass at least one, for example ["{PLACE}"].'
        )
    for template in templates:
        if not isinstance(template, str) and not callable(template):
            raise ConfigError(
                f"a template must be a text with {PLACE} or a function of the label, got "
                f"{type(template).__name__}."
            )
        if isinstance(template, str) and PLACE not in template:
            raise ConfigError(
                f"template {template!r} has no {PLACE}, so every label would give the same prompt; "
                f'write it where the label goes, as in "a photo of a {PLACE}.".'
            )


@lru_cache(maxsize=1)
def _read_sets() -> dict[str, tuple[str, ...]]:
    """Read every set of `templates.toml`."""
    table = tomllib.loads(Path(__file__).with_name("templates.toml").read_text("utf-8"))
    return {name: tuple(items) for name, items in table.items()}
