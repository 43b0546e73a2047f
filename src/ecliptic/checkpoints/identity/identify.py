"""Identifies a model from its tensors: activation and input specs.

No shape shows them, so they come from the argument, the layout (OpenAI's files use QuickGELU), or
the released models of these sizes; otherwise an error names the argument to pass. `tower_sizes.py`
finds sizes and heads.
"""

from collections.abc import Iterable, Mapping
from functools import cache

from torch import Tensor

from ecliptic.checkpoints import catalog
from ecliptic.checkpoints.catalog import replace_activation
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.identity.tower_sizes import read_sizes
from ecliptic.checkpoints.key_tables import KeyTable
from ecliptic.errors import AmbiguousCheckpointError, ConfigError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import Activation, ClipConfig, ViTConfig

_NAMES: dict[Activation, str] = {"quick_gelu": "QuickGELU", "gelu": "GELU"}


def identify(
    weights: Mapping[str, Tensor], hints: Hints, stated: Stated, table: KeyTable, what: str
) -> ClipConfig:
    """Sizes, heads and activation of a model from its natively named tensors.

    Arguments and errors are those of `read_sizes`; caller or layout state the activation.

    Raises:
        AmbiguousCheckpointError: neither states it; the message lists the released models.
    """
    config = read_sizes(weights, hints, stated, table, what)
    activation = hints.activation or stated.activation
    uses_activation = isinstance(config.image, ViTConfig) or config.text  # a ResNet has ReLU
    if activation is None and uses_activation:
        raise AmbiguousCheckpointError(_ask_activation(config, what))
    return replace_activation(config, activation or "gelu")


def find_image_spec(config: ClipConfig, notes: list[str], what: str) -> ImageSpec | None:
    """The preprocessing of the released models of these sizes, if all have the same.

    Raises:
        AmbiguousCheckpointError: they differ, or there are none.
    """
    if config.image is None:
        return None
    specs = {row.image_spec for row in _list_released() if row.config == config}
    if len(specs) == 1:
        notes.append(
            "the file does not say how images are prepared; taken from the released models of "
            "these sizes (pass image_spec= to change it)"
        )
        return specs.pop()
    known = "; ".join(sorted(map(str, specs))) or "no released model has these sizes"
    raise AmbiguousCheckpointError(
        f"{what} does not say how images are resized and normalised, and released models of "
        f"these sizes do not decide it ({known}); pass image_spec=ImageSpec(...)."
    )


def find_tokenizer_spec(config: ClipConfig, pad: int, what: str) -> TokenizerSpec | None:
    """The reference tokenizer, padding with `pad`, if the token table has a row for each id.

    Raises:
        AmbiguousCheckpointError: the table has another number of rows, so texts may need another
            tokenizer, and would be encoded wrongly.
    """
    if config.text is None:
        return None
    spec = TokenizerSpec(context=config.text.context, pad=pad)
    rows = config.text.vocabulary
    if rows == spec.vocabulary:
        return spec
    given = f"merges=..., context={spec.context}"
    more = ""
    if rows > spec.vocabulary:
        given = f"context={spec.context}, pad={pad}" if pad else f"context={spec.context}"
        more = " if the first of them are the reference tokenizer's, and tokens were only added"
    raise AmbiguousCheckpointError(
        f"{what} has {rows} tokens, but the reference tokenizer has {spec.vocabulary}, so it may "
        f"need another one; pass tokenizer_spec=TokenizerSpec({given}){more}."
    )


def _ask_activation(config: ClipConfig, what: str) -> str:
    plain = replace_activation(config, "gelu")
    rows = [row for row in _list_released() if replace_activation(row.config, "gelu") == plain]
    shaped = f"this {rows[0].architecture}-shaped file" if rows else "this file"
    known: dict[Activation, Iterable[str]] = {
        kind: [row.tag for row in rows if row.activation == kind] for kind in _NAMES
    }
    choices = " or ".join(
        f"{name} ({', '.join(known[kind])})" if known[kind] else name
        for kind, name in _NAMES.items()
    )
    return (
        f"{what} does not say its activation, and the weights do not show it: {shaped} could be "
        f'{choices}; pass activation="quick_gelu" or activation="gelu".'
    )


def check_specs(
    config: ClipConfig, image_spec: ImageSpec | None, tokenizer_spec: TokenizerSpec | None
) -> None:
    """Raise ConfigError unless the specs fit the towers."""
    if config.image and image_spec and image_spec.size != config.image.image_size:
        raise ConfigError(
            f"image_spec prepares {image_spec.size} pixels, the image tower takes "
            f"{config.image.image_size}; use ImageSpec(size={config.image.image_size}, ...)."
        )
    if config.text and tokenizer_spec:
        spec, text = tokenizer_spec, config.text
        if spec.vocabulary > text.vocabulary or spec.context != text.context:
            raise ConfigError(
                f"the tokenizer gives ids below {spec.vocabulary} and {spec.context} tokens, the "
                f"text tower takes {text.vocabulary} and {text.context}; pass a tokenizer_spec "
                "that fits."
            )


@cache
def _list_released() -> tuple[catalog.Row, ...]:
    return tuple(catalog.find(name) for name in catalog.names())
