"""Draw what commands print on an 80-column terminal, for the docs: one SVG for each command.

Run from the checkout:  python -m scripts.terminal_images
"""

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images"
COLUMNS = 80
LINES = 30  # that are shown of each
COMMANDS = {  # name of the image -> command
    "classify": "ecliptic classify cat.png rocket.png fish.png --labels 'cat,rocket,fish,castle'",
    "models": "ecliptic models ViT-B-32",
    "embed": "ecliptic embed . -o {folder}/drawings.npy",
}


def main() -> None:
    """Write all images."""
    for name, command in COMMANDS.items():
        with tempfile.TemporaryDirectory() as folder:
            printed = run_command(command.format(folder=folder)).replace(f"{folder}/", "")
        shown = command.replace("{folder}/", "")
        draw_terminal(shown, printed.splitlines()[:LINES], FOLDER / f"{name}.svg")


def run_command(command: str) -> str:
    """What a command prints in the folder of the bundled drawings, with colours."""
    words = [sys.executable, "-m", *shlex.split(command)]
    colours = {"COLUMNS": f"{COLUMNS}", "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        words,
        cwd=ROOT / "src" / "ecliptic" / "report" / "drawings",
        env=os.environ | colours | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def draw_terminal(command: str, lines: list[str], out: Path) -> None:
    """Write an SVG of a terminal with the command and the lines that it printed."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, crop=True)
    svg = console.export_svg(title="ecliptic", theme=MONOKAI)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # the image loads nothing
    out.write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
