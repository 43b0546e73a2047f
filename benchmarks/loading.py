"""File -> model in a running process, ViT-B/32: `python -m benchmarks.loading`.

The same weights from safetensors in every library's own layout, in the page cache. ecliptic maps
the file and reads a weight when it is first used, so "first vectors" (load, then one text and one
image) is the fair comparison.
"""

import torch

from benchmarks.models import written
from benchmarks.timing import report_seconds, timed_in_turns
from ecliptic import load
from tests import peers

NAME = "ViT-B-32"
TOKENS = torch.tensor([[49406, 320, 1125, 539, 320, 2368, 49407] + [0] * 70])
PIXELS = torch.zeros(1, 3, 224, 224)


def main(repeats: int) -> None:
    """Print seconds to load, and seconds to load and compute the first vectors."""
    ours, theirs = written(NAME, "ecliptic"), written(NAME, "open_clip")
    folder = written(NAME, "transformers")
    open_clip, clip_model = peers.open_clip(), peers.transformers().CLIPModel

    def load_open_clip() -> torch.nn.Module:
        file = str(theirs / "open_clip_model.safetensors")
        return open_clip.create_model(NAME, pretrained=file).eval()

    loaders = {
        "ecliptic": lambda: load(ours),
        "open_clip": load_open_clip,
        "transformers": lambda: clip_model.from_pretrained(folder).eval(),
    }
    report_seconds("load", timed_in_turns(loaders, repeats, warmup=1), "ecliptic")
    with torch.no_grad():
        first = {
            "ecliptic": lambda: load(ours).model(PIXELS, TOKENS),
            "open_clip": lambda: load_open_clip()(PIXELS, TOKENS),
            "transformers": lambda: clip_model.from_pretrained(folder).eval()(TOKENS, PIXELS),
        }
        seconds = timed_in_turns(first, repeats, warmup=1)
    report_seconds("load_and_first_vectors", seconds, "ecliptic")


if __name__ == "__main__":
    main(repeats=5)
