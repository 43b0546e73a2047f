"""T5 in a folder: what is found, what is refused, and what is said where there is none."""

import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.diffusion import Conditioner, ConditioningWarning, conditioner
from ecliptic.errors import CheckpointError, ConfigError, MissingExtraError, UnknownModelError
from tests.diffusion import pipelines


def make(family: str = "sd3", **options: Any) -> Conditioner:
    encoders = pipelines.encoders(family)
    return conditioner(family, encoders, any_size=True, device="cpu", **options)


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A copy of the folder of SD3."""
    return shutil.copytree(pipelines.folder("sd3"), tmp_path / "sd3")


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | values), encoding="utf-8")


# --- refused -------------------------------------------------------------------------------------


def test_a_t5_without_tokenizer_files_is_refused(pipeline: Path) -> None:
    """transformers would make up a tokenizer of 104 tokens."""
    (pipeline / "tokenizer_3" / "tokenizer.json").unlink()
    for t5 in (None, pipeline, pipeline / "text_encoder_3"):
        with pytest.raises(ConfigError, match=r"no tokenizer of T5 in .* beside it in tokenizer_3"):
            conditioner("sd3", pipeline, any_size=True, t5=t5)
    assert conditioner("sd3", pipeline, any_size=True, t5=False)
    alone = shutil.copytree(pipeline / "text_encoder_3", pipeline / "t5")
    with pytest.raises(ConfigError, match=r"tokenizer\.json or spiece\.model; put the model's own"):
        make(t5=alone)


def test_a_folder_of_another_model_is_refused(pipeline: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not a T5: its config\.json says 'clip_text_model'"):
        make(t5=pipeline / "text_encoder")
    with pytest.raises(ConfigError, match=r"neither config\.json nor text_encoder_3"):
        make(t5=pipeline / "tokenizer_3")
    with pytest.raises(UnknownModelError, match="must be a Hugging Face folder"):
        make(t5=pipeline / "nothing")
    with pytest.raises(ConfigError, match="must be a folder, False for none, or None, got True"):
        make(t5=True)
    with pytest.raises(ConfigError, match="Stable Diffusion XL base does not use T5"):
        make("sdxl", t5=pipeline)


def test_a_t5_without_weights_is_refused(pipeline: Path) -> None:
    (pipeline / "text_encoder_3" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"has no weights; download them .* t5=False"):
        conditioner("sd3", pipeline, any_size=True)


def test_damaged_files_of_t5_are_named(pipeline: Path) -> None:
    (pipeline / "tokenizer_3" / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"T5 in .* cannot be read"):
        conditioner("sd3", pipeline, any_size=True)


def test_a_tokenizer_with_more_tokens_than_vectors_is_refused(pipeline: Path) -> None:
    folder = pipeline / "tokenizer_3"
    held = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    held["model"]["vocab"] += [[f"word{i}", -2.0] for i in range(200)]
    (folder / "tokenizer.json").write_text(json.dumps(held), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"298 tokens, but T5 in .* has vectors for 200"):
        conditioner("sd3", pipeline, any_size=True)


# --- other kinds ---------------------------------------------------------------------------------


def test_umt5_is_read_by_its_own_class(pipeline: Path) -> None:
    """As a T5 it would have random position biases in all layers but the first."""
    from tests import peers

    library, folder = peers.transformers(), pipeline / "text_encoder_3"
    sizes = {"d_model": 112, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    torch.manual_seed(3)
    model = library.UMT5EncoderModel(library.UMT5Config(vocab_size=200, **sizes)).eval()
    shutil.rmtree(folder)
    with pipelines.quiet():
        model.save_pretrained(folder)
    ids = torch.tensor([[*pipelines.peer("sd3").tokenizer_3("a cat").input_ids, *[0] * 256][:256]])
    found = conditioner("sd3", pipeline, any_size=True)("a cat").tokens
    assert found is not None
    with torch.no_grad():
        torch.testing.assert_close(found[:, 77:], model(ids)[0], atol=2e-5, rtol=0)


def test_t5_runs_in_the_precision_of_the_others(pipeline: Path) -> None:
    made = conditioner("flux", pipelines.folder("flux"), any_size=True, precision="bf16")
    found = made("a cat")
    assert found.tokens is not None
    assert found.tokens.dtype == torch.bfloat16


# --- what it reads -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:the weights of words had no effect")
@pytest.mark.parametrize(
    ("dialect", "prompt", "words"),
    [
        ("plain", "a (red:1.3) fox", "a (red:1.3) fox"),
        ("a1111", "a (red:1.3) [old] fox", "a red old fox"),
        ("comfyui", "a (red:1.3) fox", "a red fox"),
        ("compel", "a red++ fox", "a red fox"),
    ],
)
def test_t5_reads_words_without_the_syntax_of_a_dialect(
    dialect: Any, prompt: str, words: str
) -> None:
    made = conditioner(pipelines.folder("flux"), any_size=True)
    found, wanted = made(prompt, dialect=dialect).tokens, made(words).tokens
    assert found is not None
    assert torch.equal(found, wanted)  # type: ignore[arg-type]


def test_a_prompt_of_several_parts_is_said_to_be_read_in_part() -> None:
    made = conditioner(pipelines.folder("flux"), any_size=True)
    with pytest.warns(ConditioningWarning, match="T5 reads only the first of the parts of"):
        found = made("a cat AND a dog", dialect="a1111").tokens
    torch.testing.assert_close(found, made("a cat ").tokens)
    given = torch.zeros(1, 5, pipelines.T5_WIDTH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # T5 does not read what was given as its tensor
        made("a cat AND a dog", dialect="a1111", t5=given)


@pytest.mark.parametrize("length", [7, 64])
def test_the_length_of_t5_is_that_of_diffusers(length: int) -> None:
    prompt, pipe = "a cat", pipelines.peer("sd3")
    with torch.no_grad(), pipelines.quiet():
        wanted = pipe.encode_prompt(prompt, None, None, device="cpu", max_sequence_length=length)[0]
        shorter = pipelines.peer("sd3-without-t5").encode_prompt(
            prompt, None, None, device="cpu", max_sequence_length=length
        )[0]
    found = conditioner(pipelines.folder("sd3"), any_size=True)(prompt, max_sequence_length=length)
    torch.testing.assert_close(found.tokens, wanted, atol=2e-5, rtol=0)
    none = conditioner(pipelines.folder("sd3-without-t5"), any_size=True, t5=False)
    found = none(prompt, max_sequence_length=length)
    torch.testing.assert_close(found.tokens, shorter, atol=2e-5, rtol=0)


def test_a_length_of_t5_without_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not use T5; leave max_sequence_length out"):
        make("sdxl")("a", max_sequence_length=64)
    t5 = torch.zeros(1, 5, 112)
    with pytest.raises(ConfigError, match="max_sequence_length has no effect; leave it out"):
        make()("a", t5=t5, negative_t5=t5, max_sequence_length=64)


# --- without T5 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "message"), [("sd3", "zeros stand in the place"), ("flux", "only the pooled vector")]
)
def test_a_missing_t5_is_said_once(family: str, message: str) -> None:
    made = make(family)
    with pytest.warns(ConditioningWarning, match=message) as caught:
        made("a cat")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made("another", negative="x")
        made.each(["b"])
        make(family, t5=False)("left out on purpose")
        make("sd3", t5=None)("ComfyUI appends nothing", compat="comfyui")


def test_a_wording_for_t5_without_t5_has_no_effect_and_says_so() -> None:
    with pytest.warns(ConditioningWarning, match="no T5 to read prompt_3 and negative_3"):
        make("sd3", t5=False)("a", prompt_3="b", negative="c", negative_3="d")
    with pytest.warns(ConditioningWarning, match="no T5 to read prompt_2"):
        make("flux", t5=False)("a", prompt_2="b")
    with pytest.warns(ConditioningWarning, match="no T5 to read max_sequence_length"):
        make("flux", t5=False)("a", max_sequence_length=7)


def test_a_wording_beside_tensors_of_t5_is_refused() -> None:
    t5 = torch.zeros(1, 5, 112)
    with pytest.raises(ConfigError, match="t5 is already encoded, so T5 cannot read prompt_3"):
        make()("a", prompt_3="b", t5=t5, negative_t5=t5)
    with pytest.raises(ConfigError, match=r"negative_t5 is already encoded, .* negative_3"):
        make()("a", negative_3="b", t5=t5, negative_t5=t5)


def test_a_family_without_a_third_encoder_has_no_third_wording() -> None:
    with pytest.raises(ConfigError, match="XL base has two text encoders and cannot use prompt_3"):
        make("sdxl")("a", prompt_3="b")
    with pytest.raises(ConfigError, match="one text encoder and cannot use negative_2"):
        make("sd1")("a", negative_2="b")


# --- caches --------------------------------------------------------------------------------------


def test_the_identity_tells_one_t5_from_another_and_from_none(pipeline: Path) -> None:
    own = conditioner("sd3", pipeline, any_size=True)
    none = conditioner("sd3", pipeline, any_size=True, t5=False)
    assert "t5" not in none.identity()
    first = own.identity()
    assert first == conditioner("sd3", pipeline, any_size=True).identity()
    encoder = own._t5.encoder
    assert encoder is not None
    with torch.no_grad():
        next(encoder.model.parameters()).mul_(2)
    assert own.identity() != first
    json.dumps(first)


def test_a_transformers_that_cannot_import_t5_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            if not name.startswith("T5"):
                raise AttributeError(name)
            raise ModuleNotFoundError(f"Could not import module {name!r}.")

    folder = pipelines.folder("sd3")
    monkeypatch.setitem(sys.modules, "transformers", Broken())
    with pytest.raises(MissingExtraError, match=r"cannot import its T5EncoderModel: .* t5=False"):
        conditioner("sd3", folder, any_size=True)


def test_t5_reads_the_words_around_break_as_two() -> None:
    made = conditioner("sd3", pipelines.folder("sd3"), any_size=True)
    wanted = made("a cat dog").tokens[:, 77:]  # type: ignore[index]
    found = made("a cat BREAK dog", dialect="a1111", long="chunk").tokens
    assert torch.equal(found[:, 154:], wanted)  # type: ignore[index]
