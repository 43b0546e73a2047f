"""Captions -> vectors, against open_clip and transformers: `python -m benchmarks.text [ARCH ...]`.

From strings to unit vectors, with tokenization, in batches of 32 captions of 5 to 15 words, each
used once. transformers pads to the longest caption of a batch, as in its documentation.
"""

import sys
from collections.abc import Callable, Iterator
from itertools import cycle

import torch
import torch.nn.functional as F
from torch import Tensor

import ecliptic
from benchmarks.models import captions, make_checkpoint, sizes
from benchmarks.timing import measure_in_turns, report
from ecliptic.checkpoints import openai_keys, read
from tests import peers

BATCH = 32
Encode = Callable[[list[str]], Tensor]


def load_ours(name: str) -> Encode:
    return ecliptic.load(make_checkpoint(name, "ecliptic", "text")).encode_text


def load_open_clip(name: str, *, compiled: bool = False) -> Encode:
    library, config = peers.open_clip(), sizes(name, "text")
    table = library.get_model_config(name)
    tower = library.model._build_text_tower(config.embed, table["text_cfg"]).eval()
    weights = read(make_checkpoint(name, "ecliptic", "text")).weights
    tower.load_state_dict(openai_keys(config).from_native(weights), strict=False)
    tower = torch.compile(tower) if compiled else tower
    tokenizer = library.get_tokenizer(name)
    return lambda texts: F.normalize(tower(tokenizer(texts)), dim=-1)


def load_transformers(name: str) -> Encode:
    library, path = peers.transformers(), make_checkpoint(name, "transformers", "text")
    tower = library.CLIPTextModelWithProjection.from_pretrained(path).eval()
    tokenizer = library.CLIPTokenizer.from_pretrained(path)

    def encode(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        return F.normalize(tower(**tokens).text_embeds, dim=-1)

    return encode


CONTENDERS = {
    "ecliptic": load_ours,
    "open_clip": load_open_clip,
    "transformers": load_transformers,
}


def batches() -> Iterator[list[str]]:
    texts = captions(64 * BATCH)
    return cycle(texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def feed(texts: Iterator[list[str]], encode: Encode) -> Callable[[], Tensor]:
    return lambda: encode(next(texts))


def main(names: list[str], repeats: int) -> None:
    """Print the captions per second of each contender."""
    for name in names:
        encoders = {label: load(name) for label, load in CONTENDERS.items()}
        with torch.inference_mode():
            vectors = [encode(captions(BATCH)) for encode in encoders.values()]
            for other in vectors[1:]:
                torch.testing.assert_close(other, vectors[0], rtol=0, atol=1e-5)
            fed = {label: feed(batches(), encode) for label, encode in encoders.items()}
            seconds = measure_in_turns(fed, repeats)
        report(f"text_{name}", seconds, BATCH, "captions", "ecliptic")


if __name__ == "__main__":
    main(sys.argv[1:] or ["ViT-B-32", "ViT-L-14"], repeats=10)
