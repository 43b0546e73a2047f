"""A message names the flags of the command line, never the arguments of Python."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

import ecliptic
from ecliptic.checkpoints import write
from ecliptic.cli.main import app
from ecliptic.cli.pages import list_commands
from ecliptic.cli.wording import FLAGS, PHRASES, name_flags
from tests import tiny

PACKAGE = Path(ecliptic.__file__).parent
NOT_OF_COMMANDS = {  # arguments and texts in messages that no command can cause
    "identity": "of ConditionCache.load",
    "through": "of guided",
    "loss": "of guided_pipeline",
    "prediction_type": "of a scheduler of diffusers",
    "use_flow_sigmas": "of a scheduler of diffusers",
    "names": "of open_vectors; the flag has the same name",
    "table": "of the address of a server",
    "vectors": "of write_vectors, which a library always gives",
    "images": "of conditioners of images",
    "empty": "of pad_to",
    "hires": "of a call in Python",
    "prompt": "of a call in Python",
    "grad": "of a call in Python",
    "dyn": "a part of A1111's tags of networks",
    "layer": "of text_outputs",
    "pooled": "of text_outputs",
    "icc": "of Preprocess",
    "mode": "of Preprocess",
    "negative_t5": "of Conditioner",
    "images_per_prompt": "of Conditioner",
    "sizes": "of Conditioner",
    "force_zeros_for_empty_prompt": "of conditioner",
    "embed": "in the repr of a Clip",
    "x": "the place of a name",
    "width": "of the viewport of a page",
    "scale": "of the viewport of a page",
    "normalize": "a word of compel's syntax",
    "field": "the form of a setting on the command line",
    "axis": "of a function that is given to bootstrap",
    "convention": "in a phrase",
    "per_label": "in a phrase",
    "several": "in a phrase",
    "smooth": "of fit_platt",
    "towards": "of fit_temperature",
    "known": "in a phrase",
    "errors": "of open, in a phrase",
    "bias": "of a loss",
    "teacher": "of a loss",
    "texts": "of a teacher",
    "token": "in a phrase",
    "overflow": "in a phrase",
    "size": "a field of ImageSpec",
    "pad": "a field of TokenizerSpec",
    "merges": "a field of TokenizerSpec",
    "context": "a field of TokenizerSpec",
    "formats": "a field of ImageLimits",
    "frames": "a field of ImageLimits",
    "pixels": "a field of ImageLimits, and of calls in Python",
    "file_bytes": "a field of ImageLimits",
}


@cache
def messages() -> tuple[tuple[str, str], ...]:
    """(place, text) of every text in the library that may be a message: it has a space."""
    return tuple(_read_messages())


def _read_messages() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in ("compat", "cli", "report"):
            continue
        for node in _without_docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            text = ""
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(value, "value", "") for value in node.values]
                text = "".join(part if isinstance(part, str) else "x" for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            if " " in text and not text.startswith("<"):
                yield f"{path.name}:{node.lineno}", text


def _without_docstrings(tree: ast.Module) -> list[ast.JoinedStr | ast.Constant]:
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in said | parts
    ]


@pytest.fixture(scope="module")
def arguments() -> dict[str, str]:
    """Every `name=` in a message, with its place."""
    found = {}
    for place, text in messages():
        for name in re.findall(r"\b([a-z_][a-z0-9_]*)=(?!=)", text):
            found.setdefault(name, place)
    return found


def test_every_argument_in_a_message_has_a_flag_or_a_reason(arguments: dict[str, str]) -> None:
    known = {*FLAGS, *NOT_OF_COMMANDS}
    assert len(arguments) > 8
    assert {name: place for name, place in arguments.items() if name not in known} == {}


def test_no_message_names_an_argument_that_has_a_flag() -> None:
    for place, text in messages():
        left = re.findall(r"(?<![\w-])([a-z_][a-z0-9_]*)=", name_flags(text))
        assert not FLAGS.keys() & set(left), (place, text)


def test_every_flag_of_the_table_exists() -> None:
    group = typer.main.get_command(app)
    flags = {flag for _, command in list_commands(group) for p in command.params for flag in p.opts}
    assert set(FLAGS.values()) - flags <= {"--any-size"}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("pass overwrite=True.", "pass --force."),
        ('Save it with layout="ecliptic", which', "Save it with --layout ecliptic, which"),
        ("pass heads=..., or heads=(image, text) if", "pass --heads, or --heads image,text if"),
        ("(pass image_spec= to change it)", "(pass --image-spec to change it)"),
        ("pass image_spec=ImageSpec(...).", "pass --image-spec."),
        ("use ImageSpec(size=224, ...).", "use --image-spec 'size=224'."),
        (
            "pass tokenizer_spec=TokenizerSpec(merges=..., context=...).",
            "pass --tokenizer-spec 'merges=..., context=...'.",
        ),
        ('pass activation="quick_gelu" or', "pass --activation quick_gelu or"),
        ("try device='cpu'.", "try --device cpu."),
        ("but revision=main was passed", "but --revision main was passed"),
        ("or pass image_size=224.", "or pass --image-size 224."),
        ("but token='x' names one", "but --inversion FILE='x' names one"),
        ("pass steps=, or put", "pass --steps, or put"),
        ('shorten it, or pass overflow="truncate" to cut them.', "shorten it."),
        ("more with ImageLimits(frames=...)", "more in Python with ImageLimits(frames=...)"),
        ("pass t5=FOLDER to the conditioner, or t5=False", "pass --t5 FOLDER, or --no-t5"),
        (
            "one; call to_diffusers() of c.at(step).",
            "one; write the prompt of one step, unscheduled.",
        ),
        ("merge the file with add_lora.", "merge the file with --lora."),
        ("the file my-heads=3.pt", "the file my-heads=3.pt"),
        ("a == b and x=1", "a == b and x=1"),
    ],
)  # fmt: skip
def test_the_words_of_the_library_in_flags(said: str, shown: str) -> None:
    assert name_flags(said) == shown


def test_every_phrase_is_used() -> None:
    for phrase in PHRASES:
        texts = (text for _, text in messages())
        assert any(re.search(phrase, text) for text in texts) or "Spec" in phrase, phrase


def test_commands_say_flags(run: Any, model: str, tmp_path: Path) -> None:
    write(tiny.checkpoint("resnet"), tmp_path / "resnet")
    cannot = run("convert", tmp_path / "resnet", tmp_path / "out", "-l", "transformers")
    assert "--layout ecliptic" in cannot.stderr
    write(tiny.checkpoint("vit", seed=1), tmp_path / "other")
    taken = run("convert", model, tmp_path / "other")
    assert "pass --force" in taken.stderr
    for said in (cannot.stderr, taken.stderr):
        assert not re.search(r"\b(layout|overwrite)=", said)
