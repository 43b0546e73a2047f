"""Short scripts as people write them for open_clip; `test_wild.py` runs each on both libraries.

A script gets the library, the name of a model, a picture and a folder, and prints what it finds.
"""

import copy
from argparse import Namespace
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from tests.compat.printing import LABELS, show


def load(open_clip: Any, name: str) -> tuple[Any, Any, Any]:
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


def readme(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess, tokenizer = load(open_clip, name)
    image, text = preprocess(picture).unsqueeze(0), tokenizer(LABELS)
    with torch.no_grad():
        images, texts = model.encode_image(image), model.encode_text(text)
        images /= images.norm(dim=-1, keepdim=True)
        texts /= texts.norm(dim=-1, keepdim=True)
    show("probabilities", (100.0 * images @ texts.T).softmax(dim=-1))


def zero_shot_classifier(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess, tokenizer = load(open_clip, name)
    weights = open_clip.build_zero_shot_classifier(
        model,
        tokenizer,
        classnames=open_clip.IMAGENET_CLASSNAMES[:3],
        templates=open_clip.OPENAI_IMAGENET_TEMPLATES[:4],
        num_classes_per_batch=2,
    )
    show("weights", weights)
    with torch.no_grad():
        vectors = model.encode_image(preprocess(picture)[None], normalize=True)
    show("logits", 100.0 * vectors @ weights)
    show("names", [len(open_clip.IMAGENET_CLASSNAMES), open_clip.IMAGENET_CLASSNAMES[-5:]])
    names = open_clip.OPENAI_IMAGENET_TEMPLATES, open_clip.SIMPLE_IMAGENET_TEMPLATES
    show("templates", [template("cat") for group in names for template in group])
    same = ["a {}", "the {}"]
    show("strings", open_clip.build_zero_shot_classifier(model, tokenizer, LABELS, same, None))


def patch_tokens(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess, tokenizer = load(open_clip, name)
    model.visual.output_tokens = True
    x = torch.stack([preprocess(picture), preprocess(picture.rotate(90))])
    pooled, tokens = model.visual(x)
    show("pooled", pooled)
    show("tokens", tokens[..., :4])
    places = F.normalize(tokens @ model.visual.proj, dim=-1)
    show("places", places @ model.encode_text(tokenizer(LABELS), normalize=True).T)
    model.visual.pool_type = "avg"
    show("average", model.visual(x)[0])


def stable_diffusion_2(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    """The text encoder that stops before the last block and forgets the image tower."""
    model, _, tokenizer = load(open_clip, name)
    del model.visual
    with torch.no_grad():
        x = model.token_embedding(tokenizer(["a castle", ""])) + model.positional_embedding
        x = x.to(model.transformer.get_cast_dtype())
        blocks = model.transformer.resblocks
        for n, block in enumerate(blocks):
            if n == len(blocks) - 1:
                break
            if model.transformer.grad_checkpointing and not torch.jit.is_scripting():
                raise AssertionError
            x = block(x, attn_mask=model.attn_mask)
    show("conditioning", model.ln_final(x)[:, :3])


def locked_image_tower(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    """LiT with gradient checkpointing, one step of training."""
    model, preprocess, tokenizer = load(open_clip, name)
    model.train()
    model.lock_image_tower(unlocked_groups=2)
    model.set_grad_checkpointing()
    images = torch.stack([preprocess(picture), preprocess(picture.rotate(90))])
    images_, texts, scale = model(images, tokenizer(["upright", "turned"]))
    loss = open_clip.ClipLoss()(images_, texts, scale)
    loss.backward()
    show("loss", loss)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    show("trained", trained)
    for key, parameter in model.named_parameters():
        if parameter.grad is not None and key.endswith("ln_1.bias"):
            show(key, parameter.grad * 10)


def locked_text_tower(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    model, _, _ = load(open_clip, name)
    for layers in (0, 1, 2, 3, 50):
        model.requires_grad_(True)
        model.lock_text_tower(unlocked_layers=layers)
        show(str(layers), [n for n, p in model.named_parameters() if p.requires_grad])
    for groups in (0, 1, 3, 50):
        model.requires_grad_(True)
        model.lock_image_tower(unlocked_groups=groups)
        show(str(groups), [n for n, p in model.named_parameters() if p.requires_grad])


def features_by_hooks(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess, tokenizer = load(open_clip, name)

    def watch(label: str) -> Any:
        return lambda module, given, found: show(label, found[..., :4])

    for n, block in enumerate(model.visual.transformer.resblocks):
        block.register_forward_hook(watch(f"block {n}"))
        block.mlp.gelu.register_forward_hook(watch(f"gelu {n}"))
        block.ln_1.register_forward_hook(watch(f"ln_1 {n}"))
        block.attn.register_forward_hook(lambda m, x, y: show("attention", y[0][..., :4]))
    model.visual.ln_post.register_forward_hook(watch("ln_post"))
    model.visual.conv1.register_forward_hook(watch("conv1"))
    model.transformer.register_forward_hook(watch("texts"))
    model.token_embedding.register_forward_hook(watch("embedding"))
    with torch.no_grad():
        model.encode_image(preprocess(picture)[None])
        model.encode_text(tokenizer(["a dog"]))


def changed_by_hooks(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    """Ablation and steering: hooks whose result replaces an activation."""
    model, preprocess, tokenizer = load(open_clip, name)
    blocks = model.visual.transformer.resblocks
    blocks[0].mlp.register_forward_hook(lambda m, x, y: torch.zeros_like(y))
    blocks[-1].register_forward_pre_hook(lambda m, x: (x[0] + 0.5,))
    model.ln_final.register_forward_hook(lambda m, x, y: 2 * y)
    show("image", model.encode_image(preprocess(picture)[None]))
    show("texts", model.encode_text(tokenizer(LABELS)))


def patched_forward(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    """The last block without its MLP and shortcut, as dense methods do it."""
    model, preprocess, _ = load(open_clip, name)

    def forward(self: Any, q_x: Tensor, *others: Any, attn_mask: Tensor | None = None) -> Tensor:
        x = self.ln_1(q_x)
        return self.ls_1(self.attention(x, attn_mask=attn_mask))  # type: ignore[no-any-return]

    last = model.visual.transformer.resblocks[-1]
    last.forward = MethodType(forward, last)
    show("image", model.encode_image(preprocess(picture)[None]))


def pruned(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess, tokenizer = load(open_clip, name)
    model.visual.transformer.resblocks = model.visual.transformer.resblocks[:-1]
    model.transformer.resblocks = model.transformer.resblocks[:-1]
    model.visual.proj = None
    model.visual.ln_post = nn.Identity()
    show("image", model.encode_image(preprocess(picture)[None]))
    show("texts", model.encode_text(tokenizer(LABELS)))
    show("keys", sorted(model.state_dict()))


def image_tower_alone(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    """The text tower is thrown away to save memory."""
    model, preprocess, _ = load(open_clip, name)
    model.transformer = nn.Identity()
    model.token_embedding = nn.Identity()
    show("image", model.encode_image(preprocess(picture)[None], normalize=True))
    show("parameters", sum(p.numel() for p in model.parameters()))
    visual = nn.Sequential(model.visual, nn.Linear(model.visual.output_dim, 3, bias=False))
    nn.init.constant_(visual[1].weight, 0.1)
    show("head", visual(preprocess(picture)[None]))


def weight_average(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    """WiSE-FT: between two sets of weights; also a copy, and a file of the whole model."""
    model, preprocess, tokenizer = load(open_clip, name)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    first, second = model.state_dict(), other.state_dict()
    mixed = {k: torch.lerp(v, second[k], 0.3) for k, v in first.items() if v.is_floating_point()}
    model.load_state_dict(mixed, strict=False)
    show("image", model.encode_image(preprocess(picture)[None]))
    show("texts", model.encode_text(tokenizer(LABELS)))
    torch.save(other, folder / "whole.pt")
    again = torch.load(folder / "whole.pt", weights_only=False)
    show("again", again.encode_text(tokenizer(LABELS)))


def parameter_groups(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    """open_clip's own split into weights with and without decay, and the order of parameters."""
    model, _, _ = load(open_clip, name)
    named = list(model.named_parameters())
    bare = [n for n, p in named if p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n]
    show("order", [n for n, _ in named])
    show("bare", bare)
    show("modules", [n for n, m in model.named_modules() if isinstance(m, nn.Linear)])
    show("buffers", [n for n, _ in model.named_buffers()])
    show("logit_bias", model.logit_bias)


def what_it_is(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    """Questions about names and settings, without weights."""
    config = open_clip.get_model_config("ViT-H-14-quickgelu")
    vision, text = config["vision_cfg"], config["text_cfg"]
    show("config", [config["embed_dim"], config["quick_gelu"], vision["layers"], vision["width"]])
    show("more", [vision["head_width"], vision["patch_size"], text["heads"], text["vocab_size"]])
    show("unknown", open_clip.get_model_config("ViT-Nothing"))
    for precision in ("fp32", "amp", "bf16", "pure_bf16", "fp16", "pure_fp16"):
        show(precision, [open_clip.get_cast_dtype(precision), open_clip.get_input_dtype(precision)])
    show("colours", [open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD])
    show("constants", [open_clip.constants.IMAGENET_MEAN, open_clip.constants.INCEPTION_STD])
    row = open_clip.tokenize(["a photo of a cat!"])[0]
    print(open_clip.decode(row), open_clip.tokenizer.tokenize("hi").shape)
    show("files", [open_clip.factory.list_models()[0] in open_clip.list_models()])


def preprocessing(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    _, preprocess, _ = load(open_clip, name)
    show("mean", tuple(preprocess.transforms[-1].mean))
    show("own", [step.size for step in preprocess.transforms[:2]])
    steps = list(preprocess.transforms)
    show("without", torch.stack([steps[-1](torch.rand(3, 4, 4).fill_(0.5))]))
    make = open_clip.image_transform
    for options in (
        {"mean": 0.5, "std": 0.5},
        {"resize_mode": "squash", "interpolation": "bilinear"},
        {"mean": [0.1, 0.2, 0.3], "std": (0.3, 0.2, 0.1)},
    ):
        show(str(options), make(24, is_train=False, **options)(picture).mean(dim=(1, 2)))
    torch.manual_seed(4)
    train = open_clip.transform.image_transform(20, True, aug_cfg={"scale": (0.3, 0.6)})
    show("train", train(picture)[:, 3])


def losses(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    args = {"distill": False, "siglip": False, "model": "ViT-B-32", "horovod": False}
    args |= {"local_loss": False, "gather_with_grad": True, "rank": 0, "world_size": 1}
    loss = open_clip.create_loss(Namespace(**args))
    torch.manual_seed(5)
    images, texts = F.normalize(torch.randn(4, 8), dim=-1), F.normalize(torch.randn(4, 8), dim=-1)
    scale = torch.tensor(10.0)
    show("loss", loss(images, texts, scale))
    show("named", loss(images, texts, scale, output_dict=True)["contrastive_loss"])
    show("logits", loss.get_logits(images, texts, scale, torch.tensor(-3.0))[1])
    show("labels", loss.get_ground_truth(images.device, 4))


def locked_resnet(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess, _ = load(open_clip, name)
    model.lock_image_tower(freeze_bn_stats=True)
    model.set_grad_checkpointing(True)
    model.train()
    images = torch.stack([preprocess(picture), preprocess(picture.rotate(90))])
    show("frozen", model.encode_image(images))
    show("again", model.encode_image(images[:1]))
    show("trained", [n for n, p in model.visual.named_parameters() if p.requires_grad])


def resnet_features(open_clip: Any, name: str, picture: Image.Image, folder: Path) -> None:
    model, preprocess, _ = load(open_clip, name)
    visual = model.visual
    visual.layer2.register_forward_hook(lambda m, x, y: show("layer2", y.mean(dim=(2, 3))))
    visual.layer3[0].act3.register_forward_hook(lambda m, x, y: show("act3", y.mean(dim=(2, 3))))
    visual.attnpool.register_forward_hook(lambda m, x, y: show("pool", y))
    with torch.no_grad():
        x = preprocess(picture)[None]
        show("stem", visual.stem(x).mean(dim=(2, 3)))
        model.encode_image(x)
    model.train()
    show("train mode", model.encode_image(torch.cat([x, x + 1])))
    show("statistics", visual.bn1.running_mean)


VIT = [
    readme,
    zero_shot_classifier,
    patch_tokens,
    stable_diffusion_2,
    locked_image_tower,
    locked_text_tower,
    features_by_hooks,
    changed_by_hooks,
    patched_forward,
    pruned,
    image_tower_alone,
    weight_average,
    parameter_groups,
    what_it_is,
    preprocessing,
    losses,
]
RESNET = [readme, locked_resnet, resnet_features, parameter_groups]
