"""What another program must know beside the file: how to make its input, as plain JSON.

`image.json` and `text.json` state every rule of `inputs`, in order, so that pixels and tokens can
be made in any language; `export.json` states the model and its files.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from ecliptic.checks import check_finite
from ecliptic.engine import Clip
from ecliptic.export.graphs import SHORTEST
from ecliptic.export.programs import OUTPUT
from ecliptic.inputs import (
    WORD,
    Preprocess,
    TokenizerSpec,
    written_bytes,
    written_merges,
    written_vocabulary,
)
from ecliptic.settings import to_dict

FORMAT = 1  # of all three; increased when a program that reads them would go wrong
_WHITE_SPACE = "any character of which Python's str.isspace() is true"


def describe_image(preprocess: Preprocess, embed: int) -> dict[str, Any]:
    """How an image becomes the pixels of the image file."""
    spec = preprocess.spec
    robust = preprocess.mode == "robust"
    return {
        "format": FORMAT,
        "input": _tensor("pixels", "float32", ["batch", 3, spec.size, spec.size]),
        "output": _vectors(embed),
        **to_dict(spec),
        "antialias": True,
        "mode": preprocess.mode,
        **({"background": list(preprocess.background), "icc": preprocess.icc} if robust else {}),
        "steps": [*(_robust_steps(preprocess) if robust else []), *_image_steps(preprocess)],
    }


def _robust_steps(preprocess: Preprocess) -> list[dict[str, Any]]:
    profile = (
        [_step("profile", "convert from the embedded colour profile to sRGB, if there is one")]
        if preprocess.icc
        else []
    )
    return [
        _step("upright", "turn and mirror as the EXIF orientation (tag 274) says"),
        _step("depth", "scale 16 bits to 8 by 1/257"),
        *profile,
        _step("flatten", "convert to RGB and put `background` behind transparency"),
    ]


def _image_steps(preprocess: Preprocess) -> list[dict[str, Any]]:
    spec = preprocess.spec
    if spec.resize == "squash":
        resize = [_step("resize", f"to {spec.size} x {spec.size}, whatever the ratio was")]
    else:
        longer = "the longer one becomes floor(size * longer / shorter)"
        crop = "the central square; left = round((width - size) / 2), halves to the even number"
        resize = [
            _step("resize", f"the shorter side to `size`; {longer}"),
            _step("crop", crop),
        ]
    resize[0]["filter"] = (
        f"{spec.interpolation} as in Pillow: antialiased when it shrinks, rounded to 8 bits"
        + (", with a = -0.5" if spec.interpolation == "bicubic" else "")
    )
    return [
        *resize,
        _step("rgb", "convert to RGB, 8 bits a channel"),
        _step("scale", "divide by 255"),
        _step("normalize", "subtract `mean` and divide by `std`, by channel"),
        _step("planes", "red, green and blue plane, rows from the top"),
    ]


def describe_text(spec: TokenizerSpec, embed: int) -> dict[str, Any]:
    """How a text becomes the tokens of the text file, with the vocabulary and the merges."""
    return {
        "format": FORMAT,
        "input": _tensor("tokens", "int64", ["batch", "length"])
        | {"length": [SHORTEST, spec.context]},
        "output": _vectors(embed),
        "context": spec.context,
        "pad": spec.pad,
        "start_of_text": spec.start_of_text,
        "end_of_text": spec.end_of_text,
        "lower_case": True,
        "word_pattern": WORD.pattern,
        "word_pattern_ignores_case": True,
        "word_end": "</w>",
        "steps": _text_steps(spec),
        "byte_names": written_bytes(),
        "merges": written_merges(spec.merges),
        "vocabulary": written_vocabulary(spec.merges),
    }


def _text_steps(spec: TokenizerSpec) -> list[dict[str, Any]]:
    room = spec.context - 2
    return [
        _step("fix", "repair mojibake and quotes with ftfy.fix_text and its defaults")
        | {"ftfy": version("ftfy"), "unneeded_for": "printable ASCII without & and '"},
        _step("unescape", "replace HTML entities, twice, as Python's html.unescape"),
        _step("space", "each run of white space becomes one space; none at both ends")
        | {"white_space": _WHITE_SPACE},
        _step("lower", "lower case, as Python's str.lower"),
        _step("split", "all matches of `word_pattern`, in order; what is between them is dropped"),
        _step("bytes", "each word in UTF-8; byte b is written as `byte_names`[b]"),
        _step("end", "append `word_end` to the last byte of the word"),
        _step("merge", "join the neighbours that come first in `merges`, all such pairs from the "
              "left, until no pair is in `merges`"),
        _step("ids", "the id of a symbol is its place in `vocabulary`, from 0"),
        _step("cut", f"keep the first {room} ids of a text"),
        _step("frame", "put `start_of_text` before them and `end_of_text` behind them"),
        _step("pad", "append `pad` until all rows of a batch are equally long, at most `context`"),
    ]  # fmt: skip


def describe_model(clip: Clip, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The model, its space and its files; `facts` are those of this export."""
    from ecliptic import __version__

    card, model = clip.card, clip.model
    both = model.image is not None and model.text is not None
    scale = float(model.logit_scale.detach().exp())
    check_finite(scale, "exp(logit_scale)", "repair the checkpoint.")
    return {
        "format": FORMAT,
        "name": card.name,
        "embed": card.embed,
        "space": card.space,
        "scale": scale if both else None,
        "calibration": to_dict(card.calibration),
        "probabilities": _probabilities(calibrated=card.calibration is not None) if both else None,
        "config": to_dict(card.config),
        "written_by": {"ecliptic": __version__, "torch": torch.__version__.partition("+")[0]},
        **facts,
    }


def _probabilities(*, calibrated: bool) -> str:
    plain = "softmax(scale * cosines) over the labels, with vectors of unit length"
    if not calibrated:
        return plain
    return (
        "softmax over cosine / temperature of L labels and, as one more, none / temperature + "
        f"growth * ln L for none of them; or without the calibration, {plain}"
    )


def _tensor(name: str, dtype: str, shape: list[Any]) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}


def _vectors(embed: int) -> dict[str, Any]:
    return _tensor(OUTPUT, "float32", ["batch", embed]) | {
        "unit_length": False,
        "cosine": "divide each vector by its length, then multiply",
    }


def _step(name: str, what: str) -> dict[str, Any]:
    return {"step": name, "what": what}
