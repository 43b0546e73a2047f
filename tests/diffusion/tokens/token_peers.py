"""The tokenizer of diffusers, ComfyUI and compel with our own vocabulary, and how compel splits.

Both are skipped where the package is not installed.
"""

from functools import cache
from types import SimpleNamespace
from typing import Any

from ecliptic.inputs import written_merges, written_vocabulary
from tests import peers


@cache
def huggingface_tokenizer(pad: str = "<|endoftext|>", added: tuple[str, ...] = ()) -> Any:
    vocabulary = {token: id_ for id_, token in enumerate(written_vocabulary())}
    merges = [tuple(merge.split(" ")) for merge in written_merges()]
    made = peers.transformers().CLIPTokenizer(
        vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=77
    )
    made.add_tokens(list(added))
    return made


def huggingface_ids(
    text: str, pad: str = "<|endoftext|>", added: tuple[str, ...] = ()
) -> list[int]:
    ids: list[int] = huggingface_tokenizer(pad, added)(text, add_special_tokens=False).input_ids
    return ids


def compel_chunks(
    fragments: list[str], weights: list[float], mode: str, added: tuple[str, ...] = ()
) -> tuple[Any, Any]:
    """(ids, weights), each (C, 77), of compel with `truncate_long_prompts=False`."""
    provider = peers.compel().embeddings_provider
    made = provider.EmbeddingsProvider(
        huggingface_tokenizer(added=added),
        SimpleNamespace(device="cpu"),
        truncate=False,
        split_long_text_mode=provider.SplitLongTextMode[mode],
    )
    ids, expanded, _ = made.get_token_ids_and_expand_weights(fragments, weights, "cpu")
    return ids.view(-1, 77), expanded.view(-1, 77)
