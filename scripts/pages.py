"""Write the pages of the docs that are generated from the code: `python -m scripts.pages docs`.

`reference.md` lists every public name with the first line of its docstring, `settings.md` every
field of a training recipe with its default and the comment beside it, `catalog.md` every released
model that has a name, `options.md` every option of a prompt, `test-catalogue.md` the tests of every
case of failure. `ecliptic.cli.pages` writes the page of the commands.
"""

import ast
import dataclasses
import functools
import inspect
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from scripts.catalogue import catalogue

PACKAGE = Path(__file__).parents[1] / "src" / "ecliptic"
PROPERTIES = (property, functools.cached_property)
EMPTY = inspect.Parameter.empty
WRITTEN = "<!-- Written by `make docs` from the code; edit the docstrings instead. -->\n"


def main() -> None:
    """Write the pages into the folder given on the command line."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs")
    for name, write in PAGES.items():
        (folder / name).write_text(write(), encoding="utf-8")


def public_names() -> Iterator[tuple[str, str, Any]]:
    """(module, name, object) of everything that a part, or ecliptic itself, lists in `__all__`."""
    parts = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    for module in ["ecliptic", "ecliptic.errors", "ecliptic.settings", "ecliptic.scoring"] + [
        f"ecliptic.{part}" for part in parts
    ]:
        home = import_module(module)
        names = getattr(home, "__all__", None) or _names_from(home)
        for name in names:
            yield module, name, getattr(home, name)


def summary(found: Any) -> str:
    """First paragraph of an object's docstring, on one line; "" if it has none of its own."""
    if typing.get_origin(found) is typing.Literal:
        return "one of " + ", ".join(f"`{value!r}`" for value in typing.get_args(found))
    text = inspect.getdoc(found) if inspect.isclass(found) or callable(found) else None
    if not text or text.startswith(f"{found.__name__}("):
        return ""  # none, or the one that @dataclass generates
    return _first_paragraph(text)


def reference() -> str:
    """The page of public names, part by part."""
    lines = [WRITTEN, "# Every public name", ""]
    lines += ["Import a name from the heading it stands under. Commands: [cli.md](cli.md)."]
    heading = ""
    face: dict[str, Any] = {}
    for module, name, found in public_names():
        if module != heading:
            heading = module
            lines += ["", f"## `{module}`", "", _about(module), ""]
        if face.get(name) is found:
            lines.append(f"- `{name}` – as `ecliptic.{name}`")
            continue
        if module == "ecliptic":
            face[name] = found
        lines += [f"- `{name}{_arguments(found)}`{_dash(summary(found))}", *_methods(found)]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """The page of the fields of a recipe, table by table."""
    from ecliptic.train import TrainSettings

    lines = [WRITTEN, "# Settings of a training run", ""]
    lines += [
        "A recipe is a TOML file of these fields; what it leaves out keeps the default. On the",
        "command line `table.field=value` overrides one, as in",
        "`ecliptic train run.toml optim.rate=1e-5`;",
        "lists and strings in them are written as in TOML: `'optim.restarts=[500, 900]'`. A union",
        "is chosen by `kind`. A setting that can have no effect in a run is refused.",
        "",
    ]
    for table, cls in _tables(TrainSettings, ""):
        lines += [
            f"## {f'[{table}]' if table else 'Top level'}: `{cls.__name__}`",
            "",
            summary(cls),
            "",
        ]
        lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in _fields(cls)]
        lines.append("")
    return "\n".join(lines)


def released_models() -> str:
    """The page of released models, with the settings in which checkpoints differ."""
    from ecliptic.checkpoints import catalog as table

    lines = [WRITTEN, "# Catalog of released models", ""]
    lines += [
        'Load one with `ecliptic.load("ARCH/TAG")`. [models.md](models.md) says how names work.',
        "",
        "| name | activation | images | repository |",
        "|---|---|---|---|",
    ]
    for row in map(table.find, table.names()):
        image = f"{row.image_spec.size} px{_differences(row.image_spec)}"
        lines.append(f"| `{row.name}` | {row.activation} | {image} | {row.hub} |")
    return "\n".join(lines) + "\n"


def options() -> str:
    """The page of the options of prompts: each field of `Options`, with its values."""
    from ecliptic.diffusion import Options

    lines = [WRITTEN, "# Options of a prompt", ""]
    lines += [
        "Keyword arguments of a conditioner's call and of `write_cache`, and flags of `ecliptic",
        "condition` and `ecliptic captions`. Examples: [conditioning.md](conditioning.md).",
        "",
        "| keyword | flag | values | default | meaning |",
        "|---|---|---|---|---|",
    ]
    for field in dataclasses.fields(Options):
        about = field.metadata
        flag = f"`--{field.name.replace('_', '-')}`" if about["flag"] else ""
        kind = "`True`, `False`" if field.default is False else f"a number from {about['least']}"
        values = ", ".join(f"`{value}`" for value in about["values"]) or kind
        default = about["shown"] or f"`{field.default}`"
        row = (f"`{field.name}`", flag, values, default, about["meaning"])
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _differences(spec: Any) -> str:
    """The fields in which an image preparation differs from OpenAI's."""
    usual = type(spec)(size=spec.size)
    return "".join(
        f", {field.name} {getattr(spec, field.name)}"
        for field in dataclasses.fields(spec)
        if getattr(spec, field.name) != getattr(usual, field.name)
    )


def _names_from(home: Any) -> list[str]:
    """The public names that a module without `__all__` defines."""
    return [
        name
        for name, found in vars(home).items()
        if not name.startswith("_")
        and getattr(found, "__module__", "") == home.__name__
        and not isinstance(found, typing.TypeVar)
    ]


def _about(module: str) -> str:
    return _first_paragraph(inspect.getdoc(import_module(module)) or "")


def _first_paragraph(docstring: str) -> str:
    return " ".join(docstring.partition("\n\n")[0].split())


def _dash(text: str) -> str:
    return f" – {text}" if text else ""


def _arguments(found: Any) -> str:
    """Names of the arguments in brackets, `*` before the keyword-only ones; "" for plain data."""
    if inspect.isclass(found) and issubclass(found, Exception):
        return ""
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return ""
    try:
        parameters = list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):
        return ""
    shown: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        if parameter.name != "self":
            shown.append(str(parameter.replace(annotation=EMPTY, default=EMPTY)))  # with * or **
    return f"({', '.join(shown)})"


def _methods(found: Any) -> Iterator[str]:
    """One indented line for each documented public method or property of a class of ours."""
    if not inspect.isclass(found) or not found.__module__.startswith("ecliptic."):
        return
    for name, member in vars(found).items():
        method = getattr(member, "__func__", member)
        about = inspect.getdoc(method) if not name.startswith("_") else None
        if about and (inspect.isfunction(method) or isinstance(method, PROPERTIES)):
            yield f"    - `{name}{_arguments(method)}`{_dash(_first_paragraph(about))}"


def _tables(cls: type, table: str) -> Iterator[tuple[str, type]]:
    """(TOML table, dataclass) of a settings class and of every dataclass inside it."""
    yield table, cls
    for name, hint in typing.get_type_hints(cls).items():
        arms = [arm for arm in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(arm)]
        for arm in arms:
            yield from _tables(typing.cast(type, arm), f"{table}.{name}".strip("."))


def _fields(cls: type) -> Iterator[tuple[str, str, str, str]]:
    """(field, type, default, meaning) of each field; the meaning is the comment beside it."""
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    body = typing.cast(ast.ClassDef, ast.parse(source).body[0]).body
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")[2]
            kind = ast.unparse(node.annotation).replace("|", "\\|")
            default = ast.unparse(node.value) if node.value else "required"
            nested = "default_factory" in default
            yield node.target.id, f"`{kind}`", "see below" if nested else f"`{default}`", comment


PAGES: dict[str, Callable[[], str]] = {
    "reference.md": reference,
    "settings.md": settings,
    "catalog.md": released_models,
    "options.md": options,
    "test-catalogue.md": lambda: catalogue(WRITTEN.replace("docstrings", "tests")),
}

if __name__ == "__main__":
    main()
