"""openai/CLIP as scripts see it, assembled from open_clip's modules to compare `compat.clip` with.

openai/CLIP is not on PyPI. Its blocks are those of open_clip with tokens first and with a mask of
their own; the names follow openai/CLIP clip/model.py and clip/clip.py.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import Checkpoint
from tests import peers
from tests.compat.twins import twin


def library(checkpoint: Checkpoint, folder: Path) -> Any:
    """A module like `clip` whose `load` always gives the model of `checkpoint`."""
    tokenizer = peers.open_clip().SimpleTokenizer()

    def load(name: str, device: str = "cpu", jit: bool = False) -> tuple[nn.Module, Any]:
        model = Original(twin(checkpoint))
        return model.eval(), transform(model.visual.input_resolution)

    def tokenize(texts: Any, context_length: int = 77, truncate: bool = False) -> Tensor:
        for text in [texts] if isinstance(texts, str) else texts:
            if not truncate and len(tokenizer.encode(text)) + 2 > context_length:
                raise RuntimeError(f"Input {text} is too long for context length {context_length}")
        return tokenizer(texts, context_length).int()  # type: ignore[no-any-return]

    def download(url: str, root: str) -> str:
        path = folder / "original.pt"
        torch.save(twin(checkpoint).state_dict(), path)
        return str(path)

    def build_model(state_dict: dict[str, Tensor]) -> nn.Module:
        model = twin(checkpoint)
        model.load_state_dict({n: t for n, t in state_dict.items() if n in model.state_dict()})
        model = Original(model)
        peers.open_clip().convert_weights_to_fp16(model)
        convert(model)
        return model.eval()

    module = SimpleNamespace(
        load=load,
        tokenize=tokenize,
        model=SimpleNamespace(build_model=build_model, convert_weights=convert, CLIP=Original),
        simple_tokenizer=SimpleNamespace(SimpleTokenizer=lambda: tokenizer),
        _MODELS={"ViT-B/32": "https://example.org/ViT-B-32.pt"},
        _download=download,
        _transform=transform,
        build_model=build_model,
        available_models=list,
    )
    module.clip = module
    return module


def transform(size: int) -> Any:
    """openai/CLIP clip/clip.py `_transform`."""
    T = peers.torchvision().transforms
    bicubic = T.InterpolationMode.BICUBIC
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)
    to_rgb = lambda image: image.convert("RGB")  # noqa: E731
    fit = [T.Resize(size, interpolation=bicubic), T.CenterCrop(size)]
    return T.Compose([*fit, to_rgb, T.ToTensor(), T.Normalize(mean, std)])


def convert(model: nn.Module) -> None:
    """openai/CLIP clip/model.py `convert_weights`, where open_clip's asks for its own classes."""
    peers.open_clip().convert_weights_to_fp16(model)
    for module in model.modules():
        for name in ("text_projection", "proj"):
            if isinstance(value := getattr(module, name, None), Tensor):
                value.data = value.data.half()


class Block(nn.Module):
    """A block of open_clip with tokens first and its own mask."""

    def __init__(self, block: Any, mask: Tensor | None) -> None:
        super().__init__()
        self.attn, self.ln_1, self.mlp, self.ln_2 = block.attn, block.ln_1, block.mlp, block.ln_2
        self.attn.batch_first = False
        self.attn_mask = mask

    def attention(self, x: Tensor) -> Tensor:
        mask = None if self.attn_mask is None else self.attn_mask.to(x.dtype)
        return self.attn(x, x, x, need_weights=False, attn_mask=mask)[0]  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Blocks(nn.Module):
    """openai/CLIP `Transformer`."""

    def __init__(self, transformer: Any, mask: Tensor | None) -> None:
        super().__init__()
        self.width, self.layers = transformer.width, transformer.layers
        self.resblocks = nn.Sequential(*(Block(b, mask) for b in transformer.resblocks))

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)  # type: ignore[no-any-return]


class Vision(nn.Module):
    """openai/CLIP `VisionTransformer`."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.input_resolution, self.output_dim = visual.image_size[0], visual.output_dim
        self.conv1, self.class_embedding = visual.conv1, visual.class_embedding
        self.positional_embedding, self.ln_pre = visual.positional_embedding, visual.ln_pre
        self.transformer = Blocks(visual.transformer, None)
        self.ln_post, self.proj = visual.ln_post, visual.proj

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).flatten(2).permute(0, 2, 1)
        first = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1) + self.positional_embedding.to(x.dtype)
        x = self.transformer(self.ln_pre(x).permute(1, 0, 2)).permute(1, 0, 2)
        x = self.ln_post(x[:, 0, :])
        return x if self.proj is None else x @ self.proj


class Original(nn.Module):
    """openai/CLIP `CLIP`."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.context_length, self.vocab_size = model.context_length, model.vocab_size
        self.visual: Any = model.visual
        if hasattr(model.visual, "transformer"):
            self.visual = Vision(model.visual)
        else:
            self.visual.input_resolution = model.visual.image_size
        self.transformer = Blocks(model.transformer, model.attn_mask)
        self.token_embedding, self.ln_final = model.token_embedding, model.ln_final
        self.positional_embedding = model.positional_embedding
        self.text_projection, self.logit_scale = model.text_projection, model.logit_scale

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype  # type: ignore[no-any-return]

    def encode_image(self, image: Tensor) -> Tensor:
        return self.visual(image.type(self.dtype))  # type: ignore[no-any-return]

    def encode_text(self, text: Tensor) -> Tensor:
        x = self.token_embedding(text).type(self.dtype) + self.positional_embedding.type(self.dtype)
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = self.ln_final(x).type(self.dtype)
        return x[torch.arange(len(x)), text.argmax(dim=-1)] @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        images, texts = self.encode_image(image), self.encode_text(text)
        images = images / images.norm(dim=1, keepdim=True)
        texts = texts / texts.norm(dim=1, keepdim=True)
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()
