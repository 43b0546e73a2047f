"""T5 of a Hugging Face folder, which runs in `transformers`.

`transformers` must be installed; `t5_folder.py` finds the files. B prompts, T tokens, D width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from ecliptic.diffusion.cache.keys import digest
from ecliptic.diffusion.t5_folder import VOCABULARIES, T5Folder, find_class
from ecliptic.errors import CheckpointError, ConfigError, MissingExtraError, warn
from ecliptic.inputs import TruncationWarning
from ecliptic.model import WeightState
from ecliptic.storage import hash_file


class LanguageEncoder:
    """A T5 encoder and its tokenizer.

    Args:
        folder: of the encoder and its tokenizer.
        length: tokens that every prompt is cut or padded to.
        device: it runs on.
        dtype: of its weights; None: as in its file.

    Raises:
        MissingExtraError: transformers is not installed.
        CheckpointError: transformers cannot read the files.
        ConfigError: the tokenizer has more tokens than the encoder.
    """

    def __init__(
        self,
        folder: T5Folder,
        length: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        try:
            library: Any = import_module("transformers")
        except ImportError:
            raise MissingExtraError(
                "T5 runs in transformers, which is not installed; `pip install transformers`, "
                "or pass t5=False to leave it out, or pass t5= as a tensor."
            ) from None
        kind = find_class(library, folder.kind)
        try:
            self.tokenizer: Any = library.T5TokenizerFast.from_pretrained(folder.tokenizer)
            with _without_progress(library):
                model: Any = kind.from_pretrained(folder.encoder, dtype=dtype or "auto")
        except Exception as error:  # of many libraries, for files that are damaged
            raise CheckpointError(
                f"T5 in {folder.encoder} cannot be read: {error}; download it again, or pass "
                "t5=False."
            ) from None
        self.folder = folder
        self.length = length
        self.model: Any = model.eval().to(device)
        self._sum = (WeightState.changed(), "")  # SHA-256 of the weights in this state
        _check_vocabulary(len(self.tokenizer), model.config.vocab_size, folder)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], length: int | None = None) -> Tensor:
        """Encode B prompts to (B, length, D), including unmasked padding, as diffusers does.

        Args:
            prompts: texts; equal ones are encoded once.
            length: tokens that every prompt is cut or padded to; None: that of the family.

        Warns:
            TruncationWarning: tokens were dropped.
        """
        length = self.length if length is None else length
        texts = list(dict.fromkeys(prompts))
        self._say_losses(texts, length)
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        found: Tensor = self.model(tokens.input_ids.to(self.model.device))[0]
        return found[[texts.index(prompt) for prompt in prompts]]

    def identity(self) -> dict[str, Any]:
        """All that determines the result except the prompt, as JSON values for cache keys."""
        weights: dict[str, Tensor] = self.model.state_dict()
        if not self._sum[0].holds(weights.values()):
            self._sum = WeightState.of(weights.values()), digest(weights)
        files = [self.folder.tokenizer / name for name in VOCABULARIES]
        tokenizer = [hash_file(file).hexdigest() for file in files if file.is_file()]
        return {"weights": self._sum[1], "tokenizer": tokenizer, "length": self.length}

    def _say_losses(self, texts: Sequence[str], length: int) -> None:
        """Warn about the words past `length` tokens, the last of which ends the text."""
        whole = self.tokenizer(texts, truncation=False, verbose=False).input_ids
        lost = [self.tokenizer.decode(ids[length - 1 : -1]) for ids in whole if len(ids) > length]
        if lost:
            quoted = ", ".join(repr(text) for text in lost)
            warn(
                f"T5 reads {length} tokens, so it lost {quoted}; shorten the prompt.",
                TruncationWarning,
                stacklevel=None,
            )


@contextmanager
def _without_progress(library: Any) -> Iterator[None]:
    """Show no progress bars of transformers."""
    shown = library.utils.logging.is_progress_bar_enabled()
    library.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.utils.logging.enable_progress_bar()


def _check_vocabulary(tokens: int, rows: int, folder: T5Folder) -> None:
    """Raise ConfigError if the tokenizer has tokens for which the encoder has no vector."""
    if tokens > rows:
        raise ConfigError(
            f"the tokenizer in {folder.tokenizer} has {tokens} tokens, but T5 in {folder.encoder} "
            f"has vectors for {rows}; put the model's own tokenizer beside it."
        )
