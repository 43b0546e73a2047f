"""What a fresh process runs to load a ViT-B/32 and encode one text, by contender.

Each script defines `load()` and `first(model)`, a unit vector of a text. Strings, because they
are run by new interpreters, which must not import more than a user's script would.
"""

from benchmarks.models import written

# PyPI's torchvision does not import beside a CPU build of torch without this (see tests/peers.py).
_TORCHVISION = """
import torch
_lib = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    _lib.define(_name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""

_OURS = """
def load():
    import ecliptic
    return ecliptic.load({path!r})

def first(clip):
    return clip.encode_text("a photo of a cat")
"""

_OPEN_CLIP = (
    _TORCHVISION
    + """
def load():
    import open_clip
    model, _, _ = open_clip.create_model_and_transforms("ViT-B-32", pretrained={path!r})
    return model.eval(), open_clip.get_tokenizer("ViT-B-32")

def first(pair):
    model, tokenizer = pair
    with torch.inference_mode():
        return model.encode_text(tokenizer(["a photo of a cat"]), normalize=True)
"""
)

_TRANSFORMERS = (
    _TORCHVISION
    + """
def load():
    from transformers import CLIPModel, CLIPTokenizer
    return CLIPModel.from_pretrained({path!r}).eval(), CLIPTokenizer.from_pretrained({path!r})

def first(pair):
    model, tokenizer = pair
    with torch.inference_mode():
        found = model.get_text_features(**tokenizer(["a photo of a cat"], return_tensors="pt"))
    return torch.nn.functional.normalize(getattr(found, "pooler_output", found), dim=-1)
"""
)


def scripts() -> dict[str, str]:
    """Source by contender; all load the same weights from safetensors, ours and the peers' own."""
    name = "ViT-B-32"
    theirs = written(name, "open_clip") / "open_clip_model.safetensors"
    return {
        "ecliptic": _OURS.format(path=str(written(name, "ecliptic"))),
        "open_clip": _OPEN_CLIP.format(path=str(theirs)),
        "transformers": _TRANSFORMERS.format(path=str(written(name, "transformers"))),
    }
