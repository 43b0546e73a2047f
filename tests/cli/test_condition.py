"""`condition`: tokens shown, tensors written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from ecliptic.diffusion import (
    ConditionCache,
    Conditioner,
    ConditioningWarning,
    conditioner,
    report_html,
    report_table,
)
from ecliptic.runtime.kernels.tower import TowerKernels
from tests.diffusion import pipelines

Condition = Any


@pytest.fixture
def condition(run: Any, encoders: list[str]) -> Condition:
    """Run `condition` for SDXL."""
    return lambda *words: run("condition", *words, "--for", "sdxl", *encoders)


def test_every_token_of_a_prompt_is_shown(condition: Condition, sdxl: Conditioner) -> None:
    result = condition("a (red:1.3) fox", "--dialect", "a1111", "--explain")
    assert result.exit_code == 0, result.stderr
    report = sdxl("a (red:1.3) fox", dialect="a1111").report()
    assert result.stdout.strip() == report_table(report).strip()
    assert any("red" in line and "1.3" in line for line in result.stdout.splitlines())
    assert condition("a (red:1.3) fox", "--dialect", "a1111").stdout == result.stdout


def test_kernels_reach_the_encoders(condition: Condition, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    choose = TowerKernels.kernel

    def note(self: TowerKernels, *given: Any) -> Any:
        asked.append(self.mode)
        return choose(self, *given)

    monkeypatch.setattr(TowerKernels, "kernel", note)
    assert condition("a fox", "--kernels", "plain").exit_code == 0
    assert set(asked) == {"plain"}


def test_both_sides_wordings_and_steps_are_shown(condition: Condition) -> None:
    words = ("a [cat:dog:2] AND a fox:0.5", "-n", "blurry", "--prompt-2", "oil AND paint:0.5")
    shown = condition(*words, "--dialect", "a1111", "--steps", "4")
    assert shown.exit_code == 0, shown.stderr
    for line in (
        "Prompt, alternative 1, weight 1, steps 1 to 2",
        "Prompt 2, alternative 2, weight 0.5, steps 1 to 4",
        "Negative, steps 1 to 4",
    ):
        assert line in shown.stdout.splitlines()
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_the_report_as_json_and_as_a_page(
    condition: Condition, sdxl: Conditioner, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    result = condition("a <b>", "--json", "--page", page)
    assert result.exit_code == 0, result.stderr
    report = sdxl("a <b>").report()
    assert json.loads(result.stdout) == json.loads(json.dumps(report.to_json()))
    assert page.read_text(encoding="utf-8") == report_html(report, "a <b>")
    assert "exists" in condition("a", "--page", page).stderr


@pytest.mark.filterwarnings("ignore::ecliptic.inputs.TruncationWarning")
def test_warnings_are_in_the_report_in_the_words_of_the_command(condition: Condition) -> None:
    result = condition("cat " * 90)
    assert "Shorten it, or split it with --long chunk." in " ".join(result.stdout.split())
    assert 'long="chunk"' not in result.stdout
    (note,) = json.loads(condition("cat " * 90, "--json").stdout)["notes"]
    assert note["kind"] == "TruncationWarning"


def test_a_prompts_tensors_are_those_of_the_api(
    condition: Condition, sdxl: Conditioner, tmp_path: Path
) -> None:
    out = tmp_path / "fox.safetensors"
    words = ("a red fox", "-n", "blurry", "--clip-skip", "1", "-o", out)
    result = condition(*words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    wanted = sdxl("a red fox", negative="blurry", clip_skip=1).to_diffusers()
    with safe_open(out, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = json.loads(file.metadata()["ecliptic"])
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert (about["family"], about["prompt"], about["negative"]) == ("sdxl", "a red fox", "blurry")
    again = condition(*words)
    assert again.exit_code == 1
    assert "pass --force" in again.stderr
    assert condition(*words, "--force").exit_code == 0


@pytest.mark.parametrize("more", [(), ("--verify",), ("--verify", "--repair")])
def test_the_old_form_for_tables_works_and_says_its_new_name_once(
    condition: Condition, table: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    out = tmp_path / "cache"
    result = condition(table, "--id", "file", "-o", out, "--batch-size", "1", "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("now `ecliptic captions write`") == 1
    report = json.loads(result.stdout)
    assert (report["written"], report["duplicates"]) == (2, 1)
    assert ConditionCache(out).load("b.png").tokens is not None
    if more:
        checked = condition(out, *more)
        assert checked.exit_code == 0
        assert checked.stderr.count(f"now `ecliptic captions {more[-1][2:]}`") == 1


def test_flags_of_tables_are_not_in_the_help(run: Any) -> None:
    shown = run("condition", "--help").stdout
    for flag in ("--column", "--id ", "--batch-size", "--store", "--verify", "--repair"):
        assert flag not in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["a cat"], 2, "--for sdxl"),
        (["captions.csv", "--for", "sdxl"], 1, "there is no file captions.csv"),
        ([__file__.replace("py", "csv"), "--for", "sdxl"], 1, "there is no file"),
        (["a.csv", "--repair"], 2, "--repair needs --verify"),
        (["nowhere", "--verify"], 1, "no cache folder nowhere"),
        (["a cat", "--store", "fp16"], 2, "--store is for tables of captions; see `ecliptic capt"),
        (["a cat", "--id", "x", "--batch-size", "4"], 2, "--id, --batch-size is for tables"),
        (["a.csv", "--negative", "x", "--page", "y"], 2, "--negative, --page is for a prompt"),
        (["a cat", "--for", "sdxl", "-o", "a.npz"], 2, "must end in .safetensors"),
        (["a cat", "--for", "sdxxl", "-e", "x"], 2, "sdxl"),
        (["a cat", "--for", "sdxl", "-e", "mini", "--lora", "a.safetensors=much"], 2, "FILE=0.8"),
    ],
)
def test_wrong_usage_says_what_is_missing(
    run: Any, words: list[str], code: int, message: str
) -> None:
    result = run("condition", *words)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr


# --- a pipeline's folder -------------------------------------------------------------------------


def test_a_pipelines_folder_tells_its_family_and_holds_its_t5(run: Any, tmp_path: Path) -> None:
    folder, out = pipelines.folder("sd3"), tmp_path / "fox.safetensors"
    words = ("a fox", "--prompt-3", "in oil", "-n", "bad", "--negative-3", "worse")
    result = run("condition", *words, "-e", folder, "--any-size", "-o", out)
    assert result.exit_code == 0, result.stderr
    made = conditioner(folder, any_size=True)
    wanted = made("a fox", prompt_3="in oil", negative="bad", negative_3="worse").to_diffusers()
    with safe_open(out, "pt") as file:
        assert all(torch.equal(file.get_tensor(name), wanted[name]) for name in wanted)
        about = json.loads(file.metadata()["ecliptic"])
    assert (about["family"], about["prompt_3"]) == ("sd3", "in oil")


def test_t5_can_be_left_out_or_lie_elsewhere(run: Any) -> None:
    folder = pipelines.folder("sd3")
    result = run("condition", "a fox", "-e", folder, "--any-size", "--no-t5")
    assert result.exit_code == 0, result.stderr
    assert "T5" not in result.stderr
    encoders = [word for one in pipelines.encoders("sd3") for word in ("-e", one)]
    words = ("condition", "a fox", "--for", "sd3", *encoders, "--any-size")
    with pytest.warns(ConditioningWarning, match="zeros stand in the place of its tokens"):
        assert run(*words).exit_code == 0
    found = run(*words, "--t5", folder, "--max-sequence-length", "64")
    assert found.exit_code == 0, found.stderr
    assert "T5" not in found.stderr
    both = run(*words, "--t5", folder, "--no-t5")
    assert both.exit_code == 2
    assert "contradict" in both.stderr


def test_a_folder_of_another_family_names_the_right_one(run: Any) -> None:
    result = run("condition", "a", "--for", "sd1", "-e", pipelines.folder("sdxl"), "--any-size")
    assert result.exit_code == 1
    assert 'not of "sd1"; pass "sdxl"' in " ".join(result.stderr.split())


def test_the_second_pass_has_flags(condition: Condition, tmp_path: Path) -> None:
    words = ("a cat", "--dialect", "a1111", "--steps", "4", "--hires-steps", "4")
    texts = ("--hires-prompt", "an owl", "--hires-negative", "blurry")
    shown = condition(*words, *texts)
    assert shown.exit_code == 0, shown.stderr
    assert "owl" in shown.stdout
    out = tmp_path / "c.safetensors"
    written = condition(*words, *texts, "--out", out)
    assert written.exit_code == 0, written.stderr
    with safe_open(out, "pt") as stored:
        assert "hires.prompt_embeds" in stored.keys()  # noqa: SIM118
        about = json.loads(stored.metadata()["ecliptic"])
    assert (about["hires_steps"], about["hires_prompt"]) == (4, "an owl")
    alone = condition("a", *texts)
    assert alone.exit_code == 2
    assert "pass --hires-steps" in " ".join(alone.stderr.replace("│", "").split())
    missing = condition("a", "--dialect", "a1111", "--hires-steps", "4")
    assert missing.exit_code == 1
    assert "--hires-steps is a second pass" in missing.stderr
    assert "hires=" not in missing.stderr


@pytest.mark.parametrize("family", ["pixart", "hunyuan-dit"])
def test_a_model_without_clip_is_refused_with_the_reason(
    run: Any, encoders: list[str], family: str
) -> None:
    result = run("condition", "a", "--for", family, *encoders)
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", "").split())
    assert "not the text encoder of a CLIP, so there is no family for it" in said
    assert "is not one of" in run("condition", "a", "--for", "nothing", *encoders).stderr


@pytest.mark.parametrize("prompt", ["a AND b", "a [cat:dog:2]"])
def test_messages_say_nothing_of_python(condition: Condition, tmp_path: Path, prompt: str) -> None:
    how = ("--dialect", "a1111", "--steps", "4")
    result = condition(prompt, *how, "--out", tmp_path / "c.safetensors")
    assert result.exit_code == 1
    assert "more than one set of tensors" in result.stderr
    assert "c.a" not in result.stderr
    assert "to_diffusers" not in result.stderr


def test_notes_say_nothing_of_python(condition: Condition) -> None:
    with pytest.warns(ConditioningWarning, match="read as the weight 9"):
        explained = condition("ratio 16:9", "--dialect", "a1111")
    assert "the weight 9" in " ".join(explained.stdout.split())
    assert "c.alternatives" not in explained.stdout


def test_syntax_without_a_dialect_is_said(condition: Condition) -> None:
    note = "name the dialect: --dialect a1111"
    assert note in condition("a (red:1.3) fox").stderr
    assert note in condition("a fox <lora:ink:0.8>").stderr
    assert "dialect" not in condition("a red fox at 10:30").stderr
    assert "dialect" not in condition("a (red:1.3) fox", "--dialect", "a1111").stderr
