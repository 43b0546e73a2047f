"""Scripts that load a ViT-B/32 and encode one text in a new process, by contender.

Each script defines `load()` and `first(model)`, which returns the unit vector of a text. They are
strings: a new interpreter runs them and must not import more than the script of a user would.
"""

from benchmarks.models import make_checkpoint

# Without this, PyPI's torchvision does not import with a CPU build of torch (see tests/peers.py).
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
    """Source by contender; all load the same weights, as safetensors in their own layouts."""
    name = "ViT-B-32"
    theirs = make_checkpoint(name, "open_clip") / "open_clip_model.safetensors"
    return {
        "ecliptic": _OURS.format(path=str(make_checkpoint(name, "ecliptic"))),
        "open_clip": _OPEN_CLIP.format(path=str(theirs)),
        "transformers": _TRANSFORMERS.format(path=str(make_checkpoint(name, "transformers"))),
    }
