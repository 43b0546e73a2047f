"""Captions -> vectors beside open_clip and transformers: `python -m benchmarks.text [ARCH ...]`.

From strings to unit vectors, tokenizing included, 32 captions of 5 to 15 words at a time, each
seen once. transformers is timed as its documentation calls it, padded to the longest caption.
"""

import sys
from collections.abc import Callable, Iterator
from itertools import cycle

import torch
import torch.nn.functional as F
from torch import Tensor

import ecliptic
from benchmarks.models import captions, sizes, written
from benchmarks.timing import report, timed_in_turns
from ecliptic.checkpoints import openai_keys, read
from tests import peers

BATCH = 32
Encode = Callable[[list[str]], Tensor]


def ours(name: str) -> Encode:
    return ecliptic.load(written(name, "ecliptic", "text")).encode_text


def open_clip(name: str) -> Encode:
    library, config = peers.open_clip(), sizes(name, "text")
    table = library.get_model_config(name)
    tower = library.model._build_text_tower(config.embed, table["text_cfg"]).eval()
    weights = read(written(name, "ecliptic", "text")).weights
    tower.load_state_dict(openai_keys(config).from_native(weights), strict=False)
    tokenizer = library.get_tokenizer(name)
    return lambda texts: F.normalize(tower(tokenizer(texts)), dim=-1)


def transformers(name: str) -> Encode:
    library, path = peers.transformers(), written(name, "transformers", "text")
    tower = library.CLIPTextModelWithProjection.from_pretrained(path).eval()
    tokenizer = library.CLIPTokenizer.from_pretrained(path)

    def encode(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        return F.normalize(tower(**tokens).text_embeds, dim=-1)

    return encode


CONTENDERS = {"ecliptic": ours, "open_clip": open_clip, "transformers": transformers}


def batches() -> Iterator[list[str]]:
    texts = captions(64 * BATCH)
    return cycle(texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def fed_from(texts: Iterator[list[str]], encode: Encode) -> Callable[[], Tensor]:
    return lambda: encode(next(texts))


def main(names: list[str], repeats: int) -> None:
    """Print captions per second of each contender."""
    for name in names:
        encoders = {label: make(name) for label, make in CONTENDERS.items()}
        with torch.inference_mode():
            vectors = [encode(captions(BATCH)) for encode in encoders.values()]
            for other in vectors[1:]:
                torch.testing.assert_close(other, vectors[0], rtol=0, atol=1e-5)
            fed = {label: fed_from(batches(), encode) for label, encode in encoders.items()}
            seconds = timed_in_turns(fed, repeats)
        report(f"text_{name}", seconds, BATCH, "captions", "ecliptic")


if __name__ == "__main__":
    main(sys.argv[1:] or ["ViT-B-32", "ViT-L-14"], repeats=10)
