"""Compares our conditioning with a pipeline's own: prompts, calls and comparison."""

import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor

from ecliptic.diffusion import conditioner
from ecliptic.inputs import TruncationWarning
from tests.diffusion import pipelines

LONG = "a fox, " * 60
PROMPTS: dict[str, Any] = {
    "plain": "a photo of a cat",
    "empty": "",
    "spaces": "  two\t words \n ",
    "bang": "a cat!",
    "bangs": "hello!! world ! wow!? !",
    "bang alone": "!",
    "entities": "caf&eacute; &amp;amp; tea &lt;b&gt;",
    "mojibake": "donâ€™t Ã© l’humanitÃ©",
    "emoji": "a 🦊 and 👩‍👩‍👧 in 日本",
    "full width": "ｆｕｌｌ　ｗｉｄｔｈ！ ﬁ Ⅳ",
    "combined": "cafe\u0301 u\u0308ber Å",
    "capitals": "İSTANBUL STRASSE ẞ Ǆ",
    "marks": r"(red:1.3) [blue] {x|y} BREAK AND \(z\) <lora:a:1>",
    "control": "a\x00b\x7fc\u200bd\ufeff",
    "digits": "1girl, 4k, 100% don't they're",
    "full": "a " * 75,
    "list": ["a cat", "two dogs!"],
    "list with empty": ["", "x", ""],
}
SINGLE = [name for name, text in PROMPTS.items() if isinstance(text, str)]
MANY = ["a cat", "two dogs!", ""]
XL_FIELDS = ("tokens", "negative.tokens", "pooled", "negative.pooled")  # as SDXL and SD3 return


@cache
def ours(family: str, source: str = "encoders", row: str | None = None, **options: Any) -> Any:
    """Our conditioner of a row of `pipelines`: from its encoders, or from its saved folder."""
    row = row or family
    given: Any = pipelines.folder(row) if source == "folder" else pipelines.encoders(row)
    return conditioner(family, encoders=given, any_size=True, device="cpu", **options)


def check(found: Any, wanted: Mapping[str, Tensor | None]) -> None:
    """Each named field (`negative.` for the other side) equals the pipeline's, to 2e-5."""
    for name, tensor in wanted.items():
        value = found
        for step in name.split("."):
            value = getattr(value, step)
        if tensor is None:
            assert value is None, name
            continue
        assert value.shape == tensor.shape, f"{name}: {value.shape} and {tensor.shape}"
        assert value.dtype == tensor.dtype, f"{name}: {value.dtype} and {tensor.dtype}"
        worst = (value.float() - tensor.float()).abs().max()
        assert worst <= pipelines.PARITY, f"{name} differs by {worst}"


def sides(**stacked: Tensor) -> dict[str, Tensor]:
    """Split stacked tensors of a pipeline, negatives first, into the fields of both sides."""
    found = {}
    for name, tensor in stacked.items():
        found[f"negative.{name}"], found[name] = tensor.chunk(2)
    return found


def cut(call: Any, *lost: str) -> Any:
    """The result of `call`, which must warn about every text in `lost`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    said = [str(each.message) for each in caught if issubclass(each.category, TruncationWarning)]
    others = [each for each in caught if not issubclass(each.category, TruncationWarning)]
    assert not others
    for text in lost:
        assert any(text in message for message in said), f"{text!r} is not quoted by {said}"
    return result
