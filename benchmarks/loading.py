"""File -> model in a running process, ViT-B/32: `python -m benchmarks.loading`.

Every library reads the same weights in its own layout, as safetensors files in the page cache.
ecliptic maps the file and reads a weight when it is first used, so the fair comparison is "first
vectors": load, then encode one text and one image.
"""

import torch

from benchmarks.models import make_checkpoint
from benchmarks.timing import measure_in_turns, report_seconds
from ecliptic import load
from tests import peers

NAME = "ViT-B-32"
TOKENS = torch.tensor([[49406, 320, 1125, 539, 320, 2368, 49407] + [0] * 70])
PIXELS = torch.zeros(1, 3, 224, 224)


def main(repeats: int) -> None:
    """Print the seconds to load, and the seconds to load and compute the first vectors."""
    ours, theirs = make_checkpoint(NAME, "ecliptic"), make_checkpoint(NAME, "open_clip")
    folder = make_checkpoint(NAME, "transformers")
    open_clip, clip_model = peers.open_clip(), peers.transformers().CLIPModel

    def load_open_clip() -> torch.nn.Module:
        file = str(theirs / "open_clip_model.safetensors")
        return open_clip.create_model(NAME, pretrained=file).eval()

    loaders = {
        "ecliptic": lambda: load(ours),
        "open_clip": load_open_clip,
        "transformers": lambda: clip_model.from_pretrained(folder).eval(),
    }
    report_seconds("load", measure_in_turns(loaders, repeats, warmup=1))
    with torch.no_grad():
        first = {
            "ecliptic": lambda: load(ours).model(PIXELS, TOKENS),
            "open_clip": lambda: load_open_clip()(PIXELS, TOKENS),
            "transformers": lambda: clip_model.from_pretrained(folder).eval()(TOKENS, PIXELS),
        }
        seconds = measure_in_turns(first, repeats, warmup=1)
    report_seconds("load_and_first_vectors", seconds)


if __name__ == "__main__":
    main(repeats=5)
