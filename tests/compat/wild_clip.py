"""Short scripts as people write them for openai/CLIP; `test_wild.py` runs each on both libraries.

A script gets the library, a path to load, a picture and a folder, and prints what it finds.
"""

from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from tests.compat.printing import LABELS, show


def readme(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess = clip.load(path, device="cpu")
    image = preprocess(picture).unsqueeze(0)
    text = clip.tokenize(LABELS)
    with torch.no_grad():
        per_image, per_text = model(image, text)
    show("probabilities", per_image.softmax(dim=-1))
    show("texts", per_text)


def zero_shot_top_five(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess = clip.load(path, "cpu", jit=False)
    names = [*["apple", "bear", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy"]]
    prompts = torch.cat([clip.tokenize(f"a photo of a {name}") for name in names])
    with torch.no_grad():
        image = model.encode_image(preprocess(picture)[None])
        texts = model.encode_text(prompts)
    image /= image.norm(dim=-1, keepdim=True)
    texts /= texts.norm(dim=-1, keepdim=True)
    values, places = (100.0 * image @ texts.T).softmax(dim=-1)[0].topk(5)
    for value, place in zip(values, places, strict=True):
        print(f"{names[place]}: {100 * value.item():.2f}%")


def linear_probe(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess = clip.load(path)
    turned = [preprocess(picture.rotate(90 * n)) for n in range(4)]
    with torch.no_grad():
        features = torch.cat([model.encode_image(x.unsqueeze(0)) for x in turned]).cpu().numpy()
    print(features.shape, features.dtype)
    inputs = torch.from_numpy(features)
    weights = torch.linalg.lstsq(inputs, torch.eye(4)).solution
    show("fit", inputs @ weights)


def prompt_ensemble(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, _ = clip.load(path)
    templates = ["a bad photo of a {}.", "a drawing of the {}.", "itap of my {}."]
    columns = []
    with torch.no_grad():
        for name in ("tench", "goldfish", "great white shark"):
            vectors = model.encode_text(clip.tokenize([t.format(name) for t in templates]))
            vectors /= vectors.norm(dim=-1, keepdim=True)
            mean = vectors.mean(dim=0)
            columns.append(mean / mean.norm())
    show("weights", torch.stack(columns, dim=1))


def learned_prompts(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """CoOp: vectors in place of words, trained through the frozen text tower."""
    model, preprocess = clip.load(path)
    model.float().requires_grad_(False)
    ids = clip.tokenize([f"X X X X {name}." for name in LABELS])
    embedded = model.token_embedding(ids).type(model.dtype)
    prefix, suffix = embedded[:, :1], embedded[:, 5:]
    width = model.ln_final.weight.shape[0]
    torch.manual_seed(0)
    context = nn.Parameter(0.02 * torch.randn(4, width, dtype=model.dtype))
    optimiser = torch.optim.SGD([context], lr=0.5)
    with torch.no_grad():
        image = F.normalize(model.encode_image(preprocess(picture)[None].type(model.dtype)), dim=-1)
    for _ in range(3):
        prompts = torch.cat([prefix, context.expand(len(ids), -1, -1), suffix], dim=1)
        x = prompts + model.positional_embedding.type(model.dtype)
        x = model.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = model.ln_final(x).type(model.dtype)
        x = x[torch.arange(len(x)), ids.argmax(dim=-1)] @ model.text_projection
        logits = model.logit_scale.exp() * image @ F.normalize(x, dim=-1).t()
        loss = F.cross_entropy(logits, torch.tensor([2]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        show("loss", loss)
    show("context", context)


def build_from_download(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """CoOp's way to load: a file first, the model from its state dict."""
    clip._MODELS["tiny"] = path
    place = clip._download(clip._MODELS["tiny"], str(folder))
    try:
        state = torch.jit.load(place, map_location="cpu").eval().state_dict()
    except RuntimeError:
        state = torch.load(place, map_location="cpu")
    model = clip.build_model(state)
    show("half", sorted({str(p.dtype) for p in model.parameters()}))
    show("texts", model.float().encode_text(clip.tokenize(LABELS)))
    print(isinstance(model, clip.model.CLIP))


def features_of_blocks(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """CLIPSeg: activations and attention weights of chosen blocks, by hand."""
    model, preprocess = clip.load(path)
    visual = model.visual
    with torch.no_grad():
        x = visual.conv1(preprocess(picture)[None])
        x = x.reshape(1, x.shape[1], -1).permute(0, 2, 1)
        first = visual.class_embedding.to(x.dtype) + torch.zeros(1, 1, x.shape[-1])
        x = visual.ln_pre(torch.cat([first, x], dim=1) + visual.positional_embedding)
        x = x.permute(1, 0, 2)
        for block in visual.transformer.resblocks:
            y, attn = block.ln_1(x), block.attn
            packed = F.linear(y, attn.in_proj_weight, attn.in_proj_bias)
            q, k, v = packed.chunk(3, dim=-1)
            T, heads, depth = len(x), attn.num_heads, attn.head_dim
            q, k, v = (part.reshape(T, heads, depth).transpose(0, 1) for part in (q, k, v))
            weights = (q @ k.transpose(1, 2) * depth**-0.5).softmax(dim=-1)
            y = (weights @ v).transpose(0, 1).reshape(T, 1, attn.embed_dim)
            x = x + F.linear(y, attn.out_proj.weight, attn.out_proj.bias)
            x = x + block.mlp.c_proj(block.mlp.gelu(block.mlp.c_fc(block.ln_2(x))))
            show("attention", weights[:, 0])
            show("activation", x[:, 0, :8])
        show("vector", visual.ln_post(x[0]) @ visual.proj)


def attention_by_hooks(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """Attention rollout: every block's attention module is asked for its weights."""
    model, preprocess = clip.load(path)
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], found: Any) -> None:
        seen.append(given[0])

    hooks = [b.attn.register_forward_hook(keep) for b in model.visual.transformer.resblocks]
    model.encode_image(preprocess(picture)[None])
    for hook in hooks:
        hook.remove()
    rollout = torch.eye(seen[0].shape[0])
    for block, x in zip(model.visual.transformer.resblocks, seen, strict=True):
        weights = block.attn(x, x, x, need_weights=True)[1][0]
        rollout = (0.5 * weights + 0.5 * torch.eye(len(weights))) @ rollout
    show("rollout", rollout[0])


def hidden_states_by_hooks(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess = clip.load(path)

    def watch(name: str) -> Any:
        return lambda module, given, found: show(name, found[..., :4])

    for n, block in enumerate(model.transformer.resblocks):
        block.register_forward_hook(watch(f"block {n}"))
        block.mlp.c_fc.register_forward_hook(watch(f"fc {n}"))
    model.transformer.register_forward_hook(watch("transformer"))
    model.ln_final.register_forward_hook(watch("ln_final"))
    model.visual.transformer.register_forward_hook(watch("visual"))
    model.visual.ln_post.register_forward_hook(watch("ln_post"))
    with torch.no_grad():
        model.encode_text(clip.tokenize(["a dog", "a long text of several words"]))
        model.encode_image(preprocess(picture)[None])


def guidance(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """Guided diffusion: gradient of the spherical distance of cutouts to a prompt."""
    model, preprocess = clip.load(path, jit=False)
    model.eval().requires_grad_(False)
    size, normalise = model.visual.input_resolution, preprocess.transforms[-1]
    target = F.normalize(model.encode_text(clip.tokenize("a red square")).float(), dim=-1)
    torch.manual_seed(1)
    x = torch.rand(1, 3, 48, 40, requires_grad=True)
    cuts = [F.adaptive_avg_pool2d(x[..., n : n + 36, n : n + 36], size) for n in (0, 2, 4)]
    vectors = F.normalize(model.encode_image(normalise(torch.cat(cuts))).float(), dim=-1)
    distance = (vectors - target).norm(dim=-1).div(2).arcsin().pow(2).mul(2)
    show("distance", distance)
    show("gradient", torch.autograd.grad(distance.sum(), x)[0] * 100)


def style_loss(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """StyleCLIP: the image is upsampled, pooled and compared; its pixels are optimised."""
    model, _ = clip.load(path)
    up, size = nn.Upsample(scale_factor=7), model.visual.input_resolution
    torch.manual_seed(2)
    image = torch.randn(1, 3, size, size, requires_grad=True)
    optimiser = torch.optim.Adam([image], lr=0.05)
    text = clip.tokenize(["a face with blue eyes"])
    for _ in range(3):
        loss = 1 - model(nn.AvgPool2d(7)(up(image)), text)[0] / 100
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        show("loss", loss)


def grad_cam(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """Grad-CAM on the last stage of a ResNet."""
    model, preprocess = clip.load(path)
    kept: dict[str, Tensor] = {}
    layer = model.visual.layer4
    layer.register_forward_hook(lambda m, x, y: kept.update(activation=y))
    layer.register_full_backward_hook(lambda m, x, y: kept.update(gradient=y[0]))
    image = preprocess(picture)[None].requires_grad_()
    model(image, clip.tokenize(["a gradient"]))[0].sum().backward()
    weights = kept["gradient"].mean(dim=(2, 3), keepdim=True)
    show("map", (weights * kept["activation"]).sum(dim=1).clamp(min=0))


def dense_features(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """MaskCLIP on a ResNet: each place goes alone through the attention pool's maps."""
    model, preprocess = clip.load(path)
    visual, pool, kept = model.visual, model.visual.attnpool, []
    visual.layer4.register_forward_hook(lambda m, x, y: kept.append(y))
    with torch.no_grad():
        whole = model.encode_image(preprocess(picture)[None])
        x = kept[0].flatten(2).permute(0, 2, 1)
        x = x + pool.positional_embedding[1:]
        x = F.linear(x, pool.v_proj.weight, pool.v_proj.bias)
        x = F.linear(x, pool.c_proj.weight, pool.c_proj.bias)
        texts = model.encode_text(clip.tokenize(LABELS))
    show("whole", whole)
    show("labels of places", F.normalize(x, dim=-1) @ F.normalize(texts, dim=-1).T)
    show("heads", [pool.num_heads, pool.q_proj.in_features, pool.k_proj.out_features])


def stem_by_hand(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess = clip.load(path)
    visual = model.visual
    with torch.no_grad():
        x = preprocess(picture)[None]
        for conv, norm in ((visual.conv1, visual.bn1), (visual.conv2, visual.bn2)):
            x = F.relu(norm(conv(x)))
        x = visual.avgpool(F.relu(visual.bn3(visual.conv3(x))))
        for layer in (visual.layer1, visual.layer2, visual.layer3):
            x = layer(x)
            show("channels", x.mean(dim=(2, 3)))
        block = visual.layer4[0]
        show("shortcut", block.downsample(x).mean(dim=(2, 3)))
        show("names", [name for name, _ in block.named_parameters()])
        visual.attnpool = nn.Identity()
        show("map", model.encode_image(preprocess(picture)[None]).mean(dim=(2, 3)))


def half_precision(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, _ = clip.load(path)
    clip.model.convert_weights(model)
    show("dtypes", [f"{n} {p.dtype}" for n, p in model.named_parameters()])
    show("dtype", model.dtype)
    show("back", model.float().logit_scale.exp())


def fine_tuning(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess = clip.load(path, jit=False)
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-6)
    images = torch.stack([preprocess(picture), preprocess(picture.rotate(180))])
    texts, truth = clip.tokenize(["upright", "upside down"]), torch.arange(2)
    for _ in range(2):
        per_image, per_text = model(images, texts)
        loss = (F.cross_entropy(per_image, truth) + F.cross_entropy(per_text, truth)) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        show("loss", loss)
    saved = {"epoch": 1, "model_state_dict": model.state_dict(), "loss": loss.item()}
    torch.save(saved, folder / "tuned.pt")
    again, _ = clip.load(path)
    again.load_state_dict(torch.load(folder / "tuned.pt")["model_state_dict"])
    show("saved", again.encode_text(texts))


def preprocessing(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    _, preprocess = clip.load(path)
    steps = preprocess.transforms
    show("steps", [len(steps), steps[0].size, steps[1].size, steps[-1].mean, steps[-1].std])
    show("picture", preprocess(picture).mean(dim=(1, 2)))
    last = steps.pop()
    plain = preprocess(picture)
    show("plain", plain.mean(dim=(1, 2)))
    show("normalised", last(plain).mean(dim=(1, 2)))
    steps[1].size = (20, 24)
    show("cropped", preprocess(picture).shape)
    show("tensor", steps[0](plain[:, :20]).mean(dim=(1, 2)))
    show("batch", last(torch.stack([plain, plain])).std())
    show("other size", clip.clip._transform(24)(picture).mean(dim=(1, 2)))
    steps.insert(0, lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    show("flipped", preprocess(picture)[0, 5])


def tokens(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    tokenizer = clip.simple_tokenizer.SimpleTokenizer()
    ids = tokenizer.encode("A photo of two cats & <b>dogs</b>!")
    show("ids", ids)
    print(tokenizer.decode(ids), [tokenizer.decoder[i] for i in ids])
    show("rows", clip.tokenize(["hello", "world"], context_length=10))
    show("cut", clip.tokenize("word " * 100, truncate=True)[0, -3:])
    try:
        clip.tokenize("word " * 100)
    except RuntimeError:
        print("too long")


def cache_adapter(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """Tip-Adapter: few-shot features as keys of a cache beside the zero-shot weights."""
    model, preprocess = clip.load(path)
    with torch.no_grad():
        turned = torch.stack([preprocess(picture.rotate(90 * n)) for n in range(4)])
        keys = F.normalize(model.encode_image(turned), dim=-1)
        weights = F.normalize(model.encode_text(clip.tokenize(LABELS[:4])), dim=-1)
        affinity = torch.exp(-5.5 * (1 - keys @ keys.T)) @ torch.eye(4)
    show("logits", 100.0 * keys @ weights.T + affinity)


def without_projection(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess = clip.load(path)
    model.visual.proj = None
    show("wide", model.encode_image(preprocess(picture)[None]))
    show("keys", "visual.proj" in model.state_dict())


def fewer_blocks(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess = clip.load(path)
    blocks = list(model.visual.transformer.resblocks)
    model.visual.transformer.resblocks = nn.Sequential(*blocks[:-1])
    model.transformer.resblocks = model.transformer.resblocks[:-1]
    show("image", model.encode_image(preprocess(picture)[None]))
    show("texts", model.encode_text(clip.tokenize(LABELS)))


def patched_attention(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    """ClearCLIP, SCLIP: the last block attends by values only, and the mask of texts is lifted."""
    model, preprocess = clip.load(path)

    def attend(self: Any, x: Tensor) -> Tensor:
        v = F.linear(x, self.attn.in_proj_weight, self.attn.in_proj_bias).chunk(3, dim=-1)[2]
        return self.attn.out_proj(v)  # type: ignore[no-any-return]

    last = model.visual.transformer.resblocks[-1]
    last.attention = MethodType(attend, last)
    show("image", model.encode_image(preprocess(picture)[None]))
    for block in model.transformer.resblocks:
        block.attn_mask = None
    show("texts", model.encode_text(clip.tokenize(LABELS)))


def other_image_size(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, _ = clip.load(path)
    old = model.visual.positional_embedding.data
    side = int((len(old) - 1) ** 0.5)
    grid = old[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=2 * side, mode="bilinear", align_corners=False)
    grid = grid.permute(0, 2, 3, 1).reshape(4 * side * side, -1)
    model.visual.positional_embedding = nn.Parameter(torch.cat([old[:1], grid]))
    size = 2 * model.visual.input_resolution
    torch.manual_seed(3)
    show("image", model.encode_image(torch.randn(2, 3, size, size)))


def text_tower_alone(clip: Any, path: str, picture: Image.Image, folder: Path) -> None:
    model, _ = clip.load(path)
    del model.visual.transformer
    show("children", [name for name, _ in model.named_children()])
    show("parameters", sum(p.numel() for p in model.parameters()))
    show("names", [name for name, _ in model.named_parameters() if "resblocks.0" in name])
    show("texts", model.encode_text(clip.tokenize(LABELS)))


VIT = [
    readme,
    zero_shot_top_five,
    linear_probe,
    prompt_ensemble,
    learned_prompts,
    build_from_download,
    features_of_blocks,
    attention_by_hooks,
    hidden_states_by_hooks,
    guidance,
    style_loss,
    half_precision,
    fine_tuning,
    preprocessing,
    tokens,
    cache_adapter,
    without_projection,
    fewer_blocks,
    patched_attention,
    other_image_size,
    text_tower_alone,
]
RESNET = [readme, grad_cam, dense_features, stem_by_hand]
