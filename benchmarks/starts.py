"""Scripts that load a ViT-B/32 and classify one image in a new process, by contender.

Each script defines `load()` and `first(model)`, which returns the probabilities of three texts for
an image file. They are strings: a new interpreter runs them and must not import more than the
script of a user would.
"""

import os
from pathlib import Path

from benchmarks.models import make_checkpoint

# Without this, PyPI's torchvision does not import with a CPU build of torch (see tests/peers.py).
_TORCHVISION = """
import torch
_lib = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _lib.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""

IMAGE = Path(__file__).parents[1] / "src" / "ecliptic" / "report" / "drawings" / "cat.png"
LABELS = ("a photo of a cat", "a photo of a dog", "a photo of a rocket")

_OURS = """
def load():
    import ecliptic
    return ecliptic.load({path!r})

def first(clip):
    return clip.classify([{image!r}], {labels!r})
"""

_OPEN_CLIP = (
    _TORCHVISION
    + """
def load():
    import open_clip
    model, _, prepare = open_clip.create_model_and_transforms("ViT-B-32", pretrained={path!r})
    return model.eval(), prepare, open_clip.get_tokenizer("ViT-B-32")

def first(loaded):
    from PIL import Image
    model, prepare, tokenizer = loaded
    with torch.inference_mode():
        image = model.encode_image(prepare(Image.open({image!r}))[None], normalize=True)
        texts = model.encode_text(tokenizer({labels!r}), normalize=True)
        return (model.logit_scale.exp() * image @ texts.T).softmax(dim=-1)
"""
)

_TRANSFORMERS = (
    _TORCHVISION
    + """
def load():
    from transformers import CLIPModel, CLIPProcessor
    return CLIPModel.from_pretrained({path!r}).eval(), CLIPProcessor.from_pretrained({path!r})

def first(loaded):
    from PIL import Image
    model, processor = loaded
    with torch.inference_mode(), Image.open({image!r}) as image:
        rgb, labels = image.convert("RGB"), {labels!r}
        inputs = processor(text=labels, images=rgb, return_tensors="pt", padding=True)
        return model(**inputs).logits_per_image.softmax(dim=-1)
"""
)


def scripts() -> dict[str, str]:
    """Source by contender; all load the same weights, as safetensors in their own layouts."""
    name, what = "ViT-B-32", {"image": str(IMAGE), "labels": list(LABELS)}
    theirs = make_checkpoint(name, "open_clip") / "open_clip_model.safetensors"
    return {
        "ecliptic": _OURS.format(path=str(make_checkpoint(name, "ecliptic")), **what),
        "open_clip": _OPEN_CLIP.format(path=str(theirs), **what),
        "transformers": _TRANSFORMERS.format(
            path=str(make_checkpoint(name, "transformers")), **what
        ),
    }


def environment() -> dict[str, str]:
    """That of a new process, which may keep compiled modules, as an installed package has them."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
