from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ecliptic.compat.open_clip as compat_open_clip
from ecliptic.checkpoints import Checkpoint, catalog, openai_keys, write
from ecliptic.compat import clip, open_clip
from ecliptic.errors import (
    AmbiguousCheckpointError,
    ConfigError,
    ShapeError,
    UnknownModelError,
    UnsupportedLayoutError,
    WeightsMismatchError,
)
from ecliptic.model import ClipConfig, TwoTowers
from tests import peers, tiny
from tests.compat.twins import twin

IMAGE = Image.linear_gradient("L").convert("RGB")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A state dict in OpenAI's layout."""
    path = tmp_path / "tiny.pt"
    write(tiny.checkpoint("vit"), path, layout="openai")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in open_clip's layout."""
    path = tmp_path / "folder"
    write(tiny.checkpoint("vit"), path, layout="open_clip")
    return path


def bare(path: Path) -> Path:
    """A file of weights without settings, as `torch.save(model.state_dict())` writes it."""
    held = tiny.checkpoint("vit")
    torch.save(openai_keys(held.config).from_native(held.weights), path)
    return path


def test_the_script_of_clips_readme(archive: Path) -> None:
    device = "cpu"
    model, preprocess = clip.load(archive, device=device)
    image = preprocess(IMAGE).unsqueeze(0).to(device)
    text = clip.tokenize(["a diagram", "a dog", "a cat"], context_length=16).to(device)
    with torch.no_grad():
        image_features = model.encode_image(image)
        text_features = model.encode_text(text)
        logits_per_image, logits_per_text = model(image, text)
        probs = logits_per_image.softmax(dim=-1).cpu().numpy()
    theirs = twin(tiny.checkpoint("vit"))
    torch.testing.assert_close(image_features, theirs.encode_image(image), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(text_features, theirs.encode_text(text), atol=1e-5, rtol=1e-5)
    assert probs.shape == (1, 3)
    assert logits_per_text.shape == (3, 1)
    assert not model.training


def test_the_script_of_open_clips_readme(folder: Path) -> None:
    name = f"local-dir:{folder}"
    theirs, _, their_preprocess = peers.open_clip().create_model_and_transforms(name)
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    theirs.eval()
    tokenizer = open_clip.get_tokenizer(name)
    image = preprocess(IMAGE).unsqueeze(0)
    assert torch.equal(image, their_preprocess(IMAGE).unsqueeze(0))
    text = tokenizer(["a diagram", "a dog", "a cat"])
    with torch.no_grad():
        image_features = model.encode_image(image)
        text_features = model.encode_text(text)
        image_features /= image_features.norm(dim=-1, keepdim=True)
        text_features /= text_features.norm(dim=-1, keepdim=True)
        text_probs = (100.0 * image_features @ text_features.T).softmax(dim=-1)
        wanted = theirs.get_logits(image, text)[0] / theirs.logit_scale.exp() * 100
    torch.testing.assert_close(text_probs, wanted.softmax(dim=-1), atol=1e-5, rtol=1e-5)


def test_a_loaded_model_can_be_trained(archive: Path, folder: Path) -> None:
    loaded: list[Any] = [clip.load(archive, device="cpu")[0]]
    loaded.append(open_clip.create_model(f"local-dir:{folder}"))
    held = tiny.checkpoint("vit")
    for model in loaded:
        model.train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        before = model.text_projection.detach().clone()
        _, scale = model(tiny.pixels(held), tiny.tokens(held)[:2])[-2:]
        vectors = model.encode_text(tiny.tokens(held)[:2]).sum() + scale.sum()
        vectors.backward()
        optimiser.step()
        assert not torch.equal(model.text_projection, before)


def test_random_models_follow_the_scripts_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "architecture", lambda name: tiny.CONFIGS["vit"])
    vectors = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model, train, test = open_clip.create_model_and_transforms("tiny")
        assert train(IMAGE).shape == test(IMAGE).shape == (3, 32, 32)
        vectors.append(model.encode_image(test(IMAGE)[None]))
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.equal(vectors[0], vectors[2])


def test_random_models_take_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "architecture", lambda name: tiny.CONFIGS["vit"])
    model, _, preprocess = open_clip.create_model_and_transforms(
        "tiny",
        precision="bf16",
        force_quick_gelu=True,
        force_image_size=64,
        image_mean=(0.5, 0.5, 0.5),
        image_resize_mode="squash",
        output_dict=True,
    )
    assert model.dtype == torch.bfloat16
    assert model.towers.config.text.activation == "quick_gelu"
    assert preprocess.spec.size == 64
    assert preprocess.spec.mean == model.visual.image_mean == (0.5, 0.5, 0.5)
    assert model.visual.preprocess_cfg["resize_mode"] == "squash"
    pixels = preprocess(IMAGE)[None].bfloat16()
    assert set(model(pixels)) == {"image_features", "text_features", "logit_scale"}


def test_warnings_advise_only_what_these_functions_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bare(tmp_path / "weights.pt")
    monkeypatch.setattr(catalog, "architecture", lambda name: tiny.CONFIGS["vit"])
    with pytest.warns(UserWarning, match="pass force_quick_gelu=True") as warned:
        open_clip.create_model("tiny", str(path))
    assert "activation=" not in str(warned[0].message)
    with pytest.raises(AmbiguousCheckpointError, match="name its architecture") as raised:
        open_clip.create_model(f"local-dir:{path}")
    assert "activation=" not in str(raised.value)


def test_weights_saved_by_a_training_script_load(tmp_path: Path, archive: Path) -> None:
    held = tiny.checkpoint("vit")
    model, _ = clip.load(archive, device="cpu")
    beside = {"epoch": 3, "optimizer_state_dict": {"state": {}, "param_groups": []}, "loss": 0.5}
    integers = {"input_resolution": 32, "context_length": 16, "vocab_size": 49408}
    weights = {**model.state_dict(), **{k: torch.tensor(v) for k, v in integers.items()}}
    torch.save({"model_state_dict": weights, **beside}, tmp_path / "tuned.pt")
    again, _ = clip.load(tmp_path / "tuned.pt", device="cpu")
    assert torch.equal(again.encode_text(tiny.tokens(held)), model.encode_text(tiny.tokens(held)))


def test_a_model_of_given_sizes_is_random_and_seeded() -> None:
    sizes = (32, 32, 2, 128, 8, 16, 300, 64, 1, 3)  # in the order of clip/model.py `CLIP`
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(clip.model.CLIP(*sizes))
    assert made[0].training
    assert torch.equal(made[0].text_projection, made[1].text_projection)
    again = clip.build_model(made[0].state_dict())
    assert again.dtype == torch.float16
    assert again.transformer.layers == 3
    assert again.visual.input_resolution == 32
    resnet = clip.model.CLIP(32, 64, (1, 1, 1, 1), 16, None, 16, 300, 64, 1, 1)
    assert clip.build_model(resnet.state_dict()).visual.attnpool.num_heads == 8


def test_a_state_dict_of_something_else_is_refused() -> None:
    with pytest.raises(WeightsMismatchError):
        clip.build_model({"weight": torch.zeros(2)})
    model = clip.model.CLIP.of(tiny.model(tiny.checkpoint("vit")))
    state = model.state_dict()
    del state["visual.proj"]
    with pytest.raises(WeightsMismatchError):
        clip.build_model(state)
    state = {**model.state_dict(), "visual.ln_pre.bias": torch.zeros(3), "more": torch.zeros(1)}
    with pytest.raises(WeightsMismatchError, match=r"more(.|\n)*whole model"):
        clip.build_model(state)


def test_a_state_dict_whose_heads_the_originals_rule_gets_wrong_is_refused() -> None:
    """openai/CLIP builds H/14 with 20 heads of 64 in place of 16, and computes wrong vectors."""
    widths = replace(tiny.VIT, width=1280, depth=32, heads=16, mlp=8)
    config = ClipConfig(16, widths, replace(tiny.TEXT, vocabulary=300, end_of_text=299))
    with torch.device("meta"):
        state = openai_keys(config).from_native(TwoTowers(config).state_dict())
    with pytest.raises(AmbiguousCheckpointError, match=r"ecliptic\.load\(path, heads="):
        clip.build_model(state)


def test_a_download_is_made_once_and_a_file_is_read_again(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def open_tiny(source: str) -> Checkpoint:
        opened.append(source)
        return tiny.checkpoint("vit")

    monkeypatch.setattr(clip.clip, "open_checkpoint", open_tiny)
    root = str(tmp_path / "cache")
    for _ in range(2):
        path = clip._download(clip._MODELS["ViT-B/32"], root)
        assert Path(path).name == "ViT-B-32-openai.pt"
        assert torch.load(path)["input_resolution"] == 32
    for _ in range(2):
        clip._download(str(archive), root)
    assert opened == ["ViT-B-32/openai", str(archive), str(archive)]


def test_sizes_of_every_architecture_are_open_clips() -> None:
    library = peers.open_clip()
    for name in open_clip.list_models():
        ours, theirs = open_clip.get_model_config(name), library.get_model_config(name)
        assert ours
        for tower, kind in (("vision_cfg", "CLIPVisionCfg"), ("text_cfg", "CLIPTextCfg")):
            found, wanted = (vars(getattr(library, kind)(**c[tower])) for c in (ours, theirs))
            for sizes in (found, wanted):
                sizes["mlp"] = int(sizes["width"] * sizes.pop("mlp_ratio"))
            assert found == wanted, name
        assert ours["embed_dim"] == theirs["embed_dim"]
        assert ours["quick_gelu"] == theirs.get("quick_gelu", False)


def test_sizes_in_a_folder_are_those_of_its_file(folder: Path) -> None:
    found = open_clip.get_model_config(f"local-dir:{folder}")
    assert found
    assert found["vision_cfg"]["patch_size"] == 8


def test_what_is_missing_is_named() -> None:
    with pytest.raises(AttributeError, match=r"no 'CoCa'; docs/compat.md lists"):
        open_clip.CoCa  # noqa: B018
    for module in (clip.clip, open_clip.tokenizer, open_clip.zero_shot_metadata):
        with pytest.raises(AttributeError, match="nonsense"):
            module.nonsense  # noqa: B018
    assert clip.clip._tokenizer.encode("hi") == [1883]
    assert all(getattr(open_clip, name) is not None for name in open_clip.__all__)


def test_losses_that_do_not_exist_here_are_refused() -> None:
    for wrong in ({"distill": True}, {"siglip": True}, {"model": "coca_ViT-B-32"}):
        with pytest.raises(ConfigError, match="only CLIP's"):
            open_clip.create_loss(Namespace(**wrong))
    with pytest.raises(ConfigError, match="use_horovod"):
        open_clip.ClipLoss(use_horovod=True)


def test_a_classifier_needs_classes_and_templates() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        open_clip.build_zero_shot_classifier(None, open_clip.tokenize, [], ["a {}"])


def test_a_bare_file_is_taken_for_what_its_name_means_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bare(tmp_path / "weights.pt")
    monkeypatch.setattr(catalog, "architecture", lambda name: tiny.CONFIGS["vit"])
    with pytest.warns(UserWarning, match="'tiny' in open_clip implies: gelu"):
        model = open_clip.create_model("tiny", str(path))
    assert model.towers.config.text.activation == "gelu"
    with pytest.warns(UserWarning, match="implies: quick_gelu, 2 and 1 heads"):
        model = open_clip.create_model("tiny", str(path), force_quick_gelu=True)
    held = tiny.checkpoint("vit")
    wanted = twin(held).encode_text(tiny.tokens(held))
    torch.testing.assert_close(model.encode_text(tiny.tokens(held)), wanted, atol=1e-5, rtol=1e-5)


def test_a_prefixed_name_implies_nothing(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousCheckpointError):
        open_clip.create_model(f"local-dir:{bare(tmp_path / 'weights.pt')}")


def test_a_file_of_other_sizes_than_its_name_is_refused(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="is not a ViT-B-32: its image tower has"):
        open_clip.create_model("ViT-B-32", str(archive))


def test_what_open_clip_cannot_say_of_basic_blocks_is_refused(tmp_path: Path) -> None:
    write(tiny.checkpoint("basic", "gelu"), tmp_path / "model")
    model = open_clip.create_model(f"local-dir:{tmp_path / 'model'}")
    assert model.visual.attnpool.num_heads == tiny.BASIC.heads
    with pytest.raises(
        UnsupportedLayoutError, match=r"have bottlenecks, this one has basic blocks"
    ):
        open_clip.get_model_config(f"local-dir:{tmp_path / 'model'}")
    with pytest.raises(ConfigError, match=r"not a RN50.*block basic \(not bottleneck\)"):
        open_clip.create_model("RN50", str(tmp_path / "model"))
    with pytest.raises(AmbiguousCheckpointError, match=r"ecliptic\.load\(path, heads="):
        clip.build_model(model.state_dict())


def test_names_and_tags_are_the_catalogs() -> None:
    assert set(clip.available_models()) >= {"RN50", "ViT-B/32", "ViT-L/14@336px"}
    assert ("ViT-B-32", "openai") in open_clip.list_pretrained()
    assert "ViT-B-32:openai" in open_clip.list_pretrained(as_str=True)
    assert "openai" in open_clip.list_pretrained_tags_by_model("RN50")
    assert "ViT-L-14" in open_clip.list_models()
    theirs = set(peers.open_clip().list_pretrained())
    assert set(open_clip.list_pretrained()) <= theirs


def test_every_openai_name_is_in_the_catalog() -> None:
    for name in clip._MODELS.values():
        assert catalog.find(name).activation == "quick_gelu"


def test_what_is_not_offered_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="force_patch_dropout is not supported; the options are"):
        open_clip.create_model("ViT-B-32", force_patch_dropout=0.5)
    with pytest.raises(ConfigError, match="precision must be one of"):
        open_clip.create_model("ViT-B-32", precision="int3")
    with pytest.raises(UnknownModelError, match="pass pretrained= one of"):
        open_clip.create_model_from_pretrained("ViT-B-32")
    with pytest.raises(UnknownModelError):
        open_clip.create_model("ViT-B-23")


def test_a_download_folder_is_not_ignored_in_silence(folder: Path) -> None:
    with pytest.warns(UserWarning, match="HF_HOME"):
        open_clip.create_model(f"local-dir:{folder}", cache_dir="somewhere")
    with pytest.warns(UserWarning, match="download_root"):
        clip.load(folder, device="cpu", download_root="somewhere")


def test_the_usual_imports_work() -> None:
    from ecliptic.compat.clip import load, tokenize
    from ecliptic.compat.clip.clip import available_models
    from ecliptic.compat.clip.simple_tokenizer import SimpleTokenizer

    assert load is clip.load
    assert tokenize is clip.tokenize
    assert available_models is clip.available_models
    assert SimpleTokenizer().encode("hi") == [1883]
    assert compat_open_clip.create_model is open_clip.create_model


def test_options_by_position_follow_open_clips_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "architecture", lambda name: tiny.CONFIGS["vit"])
    given = ("tiny", None, True, "bf16", "cpu", False, True, False, None, 64)
    model, _, preprocess = open_clip.create_model_and_transforms(*given)
    assert model.dtype == torch.bfloat16
    assert model.towers.config.text.activation == "quick_gelu"
    assert preprocess.spec.size == 64
    assert open_clip.create_model(*given[:4]).dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="given twice"):
        open_clip.create_model("tiny", None, True, load_weights=False)
    with pytest.raises(ConfigError, match="too many"):
        open_clip.create_model(*given, 1)


def test_positions_are_open_clips_own() -> None:
    from inspect import signature

    from ecliptic.compat.keywords import CREATE, FROM_PRETRAINED

    library = peers.open_clip()
    for name, order in (
        ("create_model", CREATE),
        ("create_model_and_transforms", CREATE),
        ("create_model_from_pretrained", FROM_PRETRAINED),
    ):
        theirs = tuple(signature(getattr(library, name)).parameters)
        assert theirs[2 : 2 + len(order)] == order


def test_small_questions_are_answered_as_in_open_clip() -> None:
    library = peers.open_clip()
    for precision in ("fp32", "fp16", "bf16", "amp"):
        assert open_clip.get_cast_dtype(precision) == library.get_cast_dtype(precision)
    ours = open_clip.list_pretrained_models_by_tag("laion2b-s34b-b79k")
    assert "ViT-B-32" in ours
    assert set(ours) <= set(library.list_pretrained_models_by_tag("laion2b-s34b-b79k"))


def test_a_single_row_of_ids_is_refused_kindly() -> None:
    facade = clip.model.CLIP.of(tiny.model(tiny.checkpoint("vit")))
    assert torch.equal(facade.build_attention_mask(), open_clip.CLIP(facade.towers).attn_mask)
    with pytest.raises(ShapeError, match="batch, tokens"):
        facade.encode_text(torch.zeros(16, dtype=torch.long))
