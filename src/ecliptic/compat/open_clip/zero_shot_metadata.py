"""open_clip's zero_shot_metadata.py: the class names and templates of ImageNet.

The names are OpenAI's, in the file beside this one, in the order of the classes. They are read
when they are first used.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files

from ecliptic.inputs import templates

IMAGENET_CLASSNAMES: tuple[str, ...]
OPENAI_IMAGENET_TEMPLATES: tuple[Callable[[str], str], ...]  # of a class name
SIMPLE_IMAGENET_TEMPLATES: tuple[Callable[[str], str], ...]

_SETS = {"OPENAI_IMAGENET_TEMPLATES": "imagenet", "SIMPLE_IMAGENET_TEMPLATES": "imagenet7"}


@cache
def __getattr__(name: str) -> tuple[object, ...]:
    if name == "IMAGENET_CLASSNAMES":
        names = files("ecliptic.compat.open_clip").joinpath("imagenet_classnames.txt")
        return tuple(names.read_text(encoding="utf-8").splitlines())
    if name in _SETS:
        return tuple(template.format for template in templates(_SETS[name]))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
