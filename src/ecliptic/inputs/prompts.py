"""Prompt templates: one label becomes several sentences, whose vectors are averaged.

The sets lie in `templates.toml` (Radford et al. 2021, arXiv:2103.00020, section 3.1.4 says why an
ensemble of sentences classifies better than the bare label). Encoding them is the engine's work.
"""

import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ecliptic.errors import ConfigError, did_you_mean

PLACE = "{}"  # where the label goes


def template_sets() -> tuple[str, ...]:
    """Names that `templates` knows."""
    return tuple(_sets())


def templates(name: str) -> tuple[str, ...]:
    """The templates of the set called `name`; ConfigError if there is none."""
    if name in _sets():
        return _sets()[name]
    fix = did_you_mean(name, template_sets()) or f"choose from {', '.join(template_sets())}."
    raise ConfigError(f"no set of templates is called {name!r}; {fix}")


def fill(templates: Sequence[str], label: str) -> list[str]:
    """One prompt per template, `label` in place of every `{}`; other braces stay as they are."""
    check_templates(templates)
    return [template.replace(PLACE, label) for template in templates]


def check_templates(templates: Sequence[str]) -> None:
    """Raise ConfigError unless `templates` is a list of texts with a place for the label."""
    if isinstance(templates, str):
        raise ConfigError(f"templates must be a list of texts, not one text; pass [{templates!r}].")
    if not templates:
        raise ConfigError(f'no templates are given; pass at least one, for example ["{PLACE}"].')
    for template in templates:
        if PLACE not in template:
            raise ConfigError(
                f"template {template!r} has no {PLACE}, so every label would read the same; "
                f'write it where the label goes, as in "a photo of a {PLACE}.".'
            )


@lru_cache(maxsize=1)
def _sets() -> dict[str, tuple[str, ...]]:
    """Every set of `templates.toml`."""
    table = tomllib.loads(Path(__file__).with_name("templates.toml").read_text("utf-8"))
    return {name: tuple(items) for name, items in table.items()}
