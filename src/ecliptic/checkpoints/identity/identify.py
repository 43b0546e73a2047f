"""Which model a file is, when only its tensors say so: activation and input specs.

They leave no trace in any shape, so they come from the argument, the layout (OpenAI's files are
QuickGELU), or the released models of these sizes; a question that those leave open stops with
the argument that answers it. Sizes and heads are `sizes.py`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache

from torch import Tensor

from ecliptic.checkpoints import catalog
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.identity.tower_sizes import sizes
from ecliptic.checkpoints.key_tables import KeyTable
from ecliptic.errors import AmbiguousCheckpointError, ConfigError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import Activation, ClipConfig, ViTConfig

_NAMES: dict[Activation, str] = {"quick_gelu": "QuickGELU", "gelu": "GELU"}


def identify(
    weights: Mapping[str, Tensor], hints: Hints, stated: Stated, table: KeyTable, what: str
) -> ClipConfig:
    """Sizes, heads and activation of a model from its natively named tensors.

    Takes and raises what `sizes` does; the activation is the caller's or the layout's.

    Raises:
        AmbiguousCheckpointError: neither says the activation; lists the released models.
    """
    config = sizes(weights, hints, stated, table, what)
    activation = hints.activation or stated.activation
    if activation is None and uses_activation(config):
        raise AmbiguousCheckpointError(_activation_question(config, what))
    return with_activation(config, activation or "gelu")


def with_activation(config: ClipConfig, activation: Activation) -> ClipConfig:
    """The same sizes with `activation` in both towers (a ResNet has none to set)."""
    image, text = config.image, config.text
    if isinstance(image, ViTConfig):
        image = replace(image, activation=activation)
    if text is not None:
        text = replace(text, activation=activation)
    return replace(config, image=image, text=text)


def uses_activation(config: ClipConfig) -> bool:
    """False for a lone ResNet, which is ReLU throughout."""
    return isinstance(config.image, ViTConfig) or config.text is not None


def image_spec_of(config: ClipConfig, notes: list[str], what: str) -> ImageSpec | None:
    """The preprocessing of the released models of these sizes, if they agree on one.

    Raises:
        AmbiguousCheckpointError: they do not agree, or there are none.
    """
    if config.image is None:
        return None
    specs = {row.image_spec for row in _released() if row.config == config}
    if len(specs) == 1:
        notes.append(
            "the file does not say how images are prepared; taken from the released models of "
            "these sizes (image_spec= decides otherwise)"
        )
        return specs.pop()
    known = "; ".join(sorted(map(str, specs))) or "no released model has these sizes"
    raise AmbiguousCheckpointError(
        f"{what} does not say how images are resized and normalised, and released models of "
        f"these sizes do not settle it ({known}); pass image_spec=ImageSpec(...)."
    )


def tokenizer_spec_of(
    config: ClipConfig, pad: int, notes: list[str], what: str
) -> TokenizerSpec | None:
    """The reference tokenizer, padding with `pad`, if the token table has room for all ids.

    Raises:
        AmbiguousCheckpointError: the table is smaller, so the merge list must have been cut.
    """
    if config.text is None:
        return None
    spec = TokenizerSpec(context=config.text.context, pad=pad)
    rows = config.text.vocabulary
    if rows < spec.vocabulary:
        raise AmbiguousCheckpointError(
            f"{what} has {rows} tokens where the reference tokenizer has {spec.vocabulary}, so it "
            "belongs to another one; pass tokenizer_spec=TokenizerSpec(merges=..., context=...)."
        )
    if rows > spec.vocabulary:
        notes.append(f"{rows - spec.vocabulary} added tokens follow the reference vocabulary")
    return spec


def _activation_question(config: ClipConfig, what: str) -> str:
    plain = with_activation(config, "gelu")
    rows = [row for row in _released() if with_activation(row.config, "gelu") == plain]
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
    """ConfigError unless pixels and tokens prepared like this fit the towers."""
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
def _released() -> tuple[catalog.Row, ...]:
    return tuple(catalog.find(name) for name in catalog.names())
