"""OpenAI's layout: a TorchScript archive or a plain state dict, with three integers beside it.

The integers (`input_resolution`, `context_length`, `vocab_size`) distinguish these files from
open_clip's, which have the same names. Source: openai/CLIP clip/model.py `build_model`, which also
fixes what the file does not state: QuickGELU, width // 64 heads, an MLP of four widths.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.assemble import assemble
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.identity.identify import identify
from ecliptic.checkpoints.identity.tower_sizes import released_heads
from ecliptic.checkpoints.key_tables import KeyTable, Rule
from ecliptic.checkpoints.layouts.writing import check_obstacles, compact, write_files
from ecliptic.checkpoints.source import Source, State
from ecliptic.errors import CorruptFileError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, ImageConfig, ResNetConfig, TextConfig, ViTConfig
from ecliptic.storage import stream_writer

NAME = "openai"
INTEGERS = ("input_resolution", "context_length", "vocab_size")
HEAD_WIDTH = 64
FILE, SUFFIXES = "model.pt", (".pt", ".pth", ".bin")


def _block_rules(ours: str, theirs: str) -> list[Rule]:
    rows = (
        ("ln_1.*", "ln_1.*"),
        ("attention.qkv.*", "attn.in_proj_*"),
        ("attention.out.*", "attn.out_proj.*"),
        ("ln_2.*", "ln_2.*"),
        ("mlp.up.*", "mlp.c_fc.*"),
        ("mlp.down.*", "mlp.c_proj.*"),
    )
    return [Rule(f"{ours}.#.{a}", f"{theirs}.#.{b}") for a, b in rows]


def _stage_rules(stage: int) -> list[Rule]:
    ours, theirs = f"image.stages.{stage}.#", f"visual.layer{stage + 1}.#"
    return [
        *(Rule(f"{ours}.conv{n}.weight", f"{theirs}.conv{n}.weight") for n in (1, 2, 3)),
        *(Rule(f"{ours}.norm{n}.*", f"{theirs}.bn{n}.*") for n in (1, 2, 3)),
        Rule(f"{ours}.shortcut.conv.weight", f"{theirs}.downsample.0.weight"),
        Rule(f"{ours}.shortcut.norm.*", f"{theirs}.downsample.1.*"),
    ]


VIT_RULES = (
    Rule("image.patch.weight", "visual.conv1.weight"),
    Rule("image.class_token", "visual.class_embedding"),
    Rule("image.positions", "visual.positional_embedding"),
    Rule("image.ln_pre.*", "visual.ln_pre.*"),
    *_block_rules("image.blocks", "visual.transformer.resblocks"),
    Rule("image.ln_post.*", "visual.ln_post.*"),
    Rule("image.projection", "visual.proj"),
)
RESNET_RULES = (
    *(Rule(f"image.stem.{n}.conv.weight", f"visual.conv{n + 1}.weight") for n in (0, 1, 2)),
    *(Rule(f"image.stem.{n}.norm.*", f"visual.bn{n + 1}.*") for n in (0, 1, 2)),
    *(rule for stage in range(4) for rule in _stage_rules(stage)),
    Rule("image.pool.positions", "visual.attnpool.positional_embedding"),
    Rule("image.pool.query.*", "visual.attnpool.q_proj.*"),
    Rule("image.pool.key.*", "visual.attnpool.k_proj.*"),
    Rule("image.pool.value.*", "visual.attnpool.v_proj.*"),
    Rule("image.pool.out.*", "visual.attnpool.c_proj.*"),
)
TEXT_RULES = (
    Rule("logit_scale", "logit_scale"),
    Rule("text.token_embedding.weight", "token_embedding.weight"),
    Rule("text.positions", "positional_embedding"),
    *_block_rules("text.blocks", "transformer.resblocks"),
    Rule("text.ln_final.*", "ln_final.*"),
    Rule("text.projection", "text_projection"),
    Rule("text.projection", "text_projection.weight", transposed=True),  # some SDXL files
)
MASKS = ("attn_mask", "transformer.resblocks.#.attn_mask")  # constants of scripted modules
WITH_VIT = KeyTable((*TEXT_RULES, *VIT_RULES), dropped=MASKS)
WITH_RESNET = KeyTable((*TEXT_RULES, *RESNET_RULES), dropped=MASKS)


def choose_table(names: Iterable[str]) -> KeyTable:
    """The table for the names in a file; both kinds of image tower have a `visual.conv1`."""
    resnet = any(name.startswith(("visual.layer", "visual.attnpool")) for name in names)
    return WITH_RESNET if resnet else WITH_VIT


def openai_keys(config: ClipConfig) -> KeyTable:
    """The table for a model's sizes."""
    return WITH_RESNET if isinstance(config.image, ResNetConfig) else WITH_VIT


def openai_config(tensors: Mapping[str, Tensor]) -> ClipConfig:
    """The sizes of a state dict without its integers, as `build_model` reads them.

    Raises:
        WeightsMismatchError: tensors that decide a size are missing.
        AmbiguousCheckpointError: its rule for heads is wrong for the released model of these sizes.
    """
    table = choose_table(tensors)
    stated = Stated(activation="quick_gelu", head_width=HEAD_WIDTH)
    weights = table.to_native(tensors).weights
    return identify(weights, Hints(), stated, table, "the state dict")


def matches(source: Source) -> bool:
    """Whether this is a file with OpenAI's names and integers."""
    if source.folder:
        return False
    state = source.open()
    return "visual.conv1.weight" in state.tensors and all(
        name in state.tensors or name in state.metadata for name in INTEGERS
    )


def read(source: Source, hints: Hints) -> Checkpoint:
    """Read the model; the layout implies QuickGELU and OpenAI's preprocessing."""
    state = source.open()
    tensors = {name: value for name, value in state.tensors.items() if name not in INTEGERS}
    stated = Stated(
        activation="quick_gelu",
        head_width=HEAD_WIDTH,
        image_spec=ImageSpec(size=_read_resolution(state)),
    )
    return assemble(
        tensors, choose_table(tensors), stated, hints, layout=NAME, what=str(source.path)
    )


def write(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a plain state dict that openai/CLIP's `build_model` takes, in the stored dtypes.

    A `path` without a PyTorch suffix is a folder, which gets a `model.pt`.

    Returns:
        Notes on settings that read back differently, but change no vector.

    Raises:
        UnsupportedLayoutError: `build_model` would make another model of the file.
    """
    check_obstacles(NAME, _list_obstacles(checkpoint))
    config = checkpoint.config
    assert config.image is not None
    assert config.text is not None
    table = openai_keys(config)
    state = {k: compact(v) for k, v in table.from_native(checkpoint.weights).items()}
    values = (config.image.image_size, config.text.context, config.text.vocabulary)
    state |= {name: torch.tensor(value) for name, value in zip(INTEGERS, values, strict=True)}
    path = path if path.suffix in SUFFIXES else path / FILE

    # given a path instead of a file, torch writes its name into the archive
    save = stream_writer(lambda file: torch.save(state, file))
    write_files(path.parent, {path.name: save}, overwrite=overwrite)
    spec = checkpoint.tokenizer_spec
    if spec is None or spec.pad == 0:
        return ()
    return (
        f"the {NAME} layout does not store the padding id {spec.pad}; it reads back as 0 "
        "(vectors are the same, hidden states after the end of text are not)",
    )


def list_tokenizer_obstacles(checkpoint: Checkpoint) -> Iterator[str]:
    """Why the reference tokenizer, which OpenAI's and open_clip's files imply, does not fit."""
    spec, text = checkpoint.tokenizer_spec, checkpoint.config.text
    if spec and spec.merges != TokenizerSpec().merges:
        yield f"its readers use the whole merge list, this model the first {spec.merges}"
    if text and spec and text.end_of_text != spec.end_of_text:
        yield f"its readers pool at id {spec.end_of_text}, this model at {text.end_of_text}"


def list_block_obstacles(image: ImageConfig) -> Iterator[str]:
    """Why OpenAI's and open_clip's ResNet, which has one kind of block, is not this tower."""
    if isinstance(image, ResNetConfig) and image.block != "bottleneck":
        yield f"its ResNets have bottlenecks, this one has {image.block} blocks"


def _read_resolution(state: State) -> int:
    value = state.tensors.get(INTEGERS[0], state.metadata.get(INTEGERS[0]))
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, int | float) or not 1 <= value <= 1 << 20:  # false for NaN too
        raise CorruptFileError(f"{INTEGERS[0]} is {value!r:.80}, a number of pixels is needed.")
    return int(value)


def _list_obstacles(checkpoint: Checkpoint) -> Iterator[str]:
    image, text = checkpoint.config.image, checkpoint.config.text
    if image is None or text is None:
        yield "its models have two towers, this model has one"
        return
    if not text.projection:
        yield "its text tower ends in a projection, this one does not"
    for side, tower in (("image", image), ("text", text)):
        if isinstance(tower, ViTConfig | TextConfig):
            yield from _list_tower_obstacles(side, tower)
    if others := [*list_block_obstacles(image)]:
        yield from others
    elif isinstance(image, ResNetConfig) and image.heads != image.width * 32 // 64:
        yield f"it implies {image.width * 32 // 64} heads in the attention pool, not {image.heads}"
    if checkpoint.image_spec != ImageSpec(size=image.image_size):
        yield f"it implies OpenAI's preprocessing, this model has {checkpoint.image_spec}"
    yield from list_tokenizer_obstacles(checkpoint)


def _list_tower_obstacles(side: str, tower: ViTConfig | TextConfig) -> Iterator[str]:
    if tower.activation != "quick_gelu":
        yield f"it implies QuickGELU, the {side} tower uses GELU"
    implied = tower.width // HEAD_WIDTH
    released = released_heads().get((side, tower.width, tower.depth), implied)
    if not tower.heads == implied == released:
        yield f"its readers take {implied} heads in the {side} tower, this one has {tower.heads}"
    if tower.mlp != 4 * tower.width:
        yield f"it implies an MLP of width {4 * tower.width} in the {side} tower, not {tower.mlp}"
    if tower.eps != 1e-5:
        yield f"it implies LayerNorm's eps 1e-5, the {side} tower has {tower.eps}"
