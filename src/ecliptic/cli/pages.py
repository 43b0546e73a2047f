"""Writes the page of all commands from the commands: `python -m ecliptic.cli.pages FILE`.

Only what the commands declare is used: no width of a terminal, no colour, so the page is the same
on every machine.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

HEAD = """# Commands

Generated from the commands by `python -m ecliptic.cli.pages docs/cli.md`; change those, not this.

Results go to stdout, talk and progress to stderr; with `--json` stdout is JSON and nothing else.

| exit code | meaning |
|---|---|
| 0 | ok |
| 1 | failed; `doctor` found a difference; `lint --strict` found something |
| 2 | wrong usage |
| 3 | some items were rejected, the rest is done |
| 130 | interrupted with Ctrl-C |

A reader that goes away (`| head`) ends a command quietly, with 1.
"""


def page() -> str:
    """The page in Markdown."""
    from ecliptic.cli.main import app

    commands = list(list_commands(typer.main.get_command(app)))
    listed = [
        f"- [`{name}`](#ecliptic-{name.replace(' ', '-')}): {_first(command)}"
        for name, command in commands
    ]
    parts = [HEAD, "\n".join(listed) + "\n", *(_command(*one) for one in commands)]
    return "\n".join(parts)


def list_commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """(name, command) of all commands, those of a group as `group command`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from list_commands(command, f"{name} ")
        else:
            yield f"{before}{name}", command


def _first(command: Any) -> str:
    return str(command.help).splitlines()[0]


def _command(name: str, command: Any) -> str:
    """One command: its words, its usage, and a table of what it takes."""
    context = typer.Context(command, info_name=command.name)
    parameters = [
        parameter
        for parameter in command.get_params(context)
        if parameter.name != "help" and not getattr(parameter, "hidden", False)
    ]
    places = [_place(p) for p in parameters if p.param_type_name == "argument"]
    lines = [f"## ecliptic {name}", "", command.help, "", "```"]
    lines += [" ".join(["ecliptic", name, "[OPTIONS]", *places]), "```", ""]
    lines += ["| | | default |", "|---|---|---|"]
    lines += [_row(parameter, context) for parameter in parameters]
    return "\n".join(lines) + "\n"


def _place(argument: Any) -> str:
    """`IN`, `[WORD]...`, `PATH...`."""
    name = _name(argument) if argument.required else f"[{_name(argument)}]"
    return name if argument.nargs == 1 else f"{name}..."


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _row(parameter: Any, context: Any) -> str:
    cells = (_spelling(parameter, context), parameter.help or "", _default(parameter))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _spelling(parameter: Any, context: Any) -> str:
    """`--top-k`, `-k` `<int>`; for an argument just its name."""
    if parameter.param_type_name == "argument":
        return f"`{_name(parameter)}`"
    flags = ", ".join(f"`{flag}`" for flag in sorted(parameter.opts, key=len, reverse=True))
    if parameter.is_flag:
        return flags
    value = parameter.metavar or parameter.display_type(context).replace(" range", "")
    return f"{flags} `{value}`"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.default in (None, False, ()):
        return ""
    return f"`{parameter.default}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
