"""Blocks of a page that are written by a program: what is between two comments of one name."""

import re
import sys
from pathlib import Path


def fill_block(page: Path, name: str, text: str) -> None:
    """Write `text` between `<!-- NAME -->` and `<!-- /NAME -->` of a Markdown page."""
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    old = page.read_text(encoding="utf-8")
    if len(block.findall(old)) != 1:
        sys.exit(f"{page} needs one block between <!-- {name} --> and <!-- /{name} -->.")
    new = block.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", old)
    page.write_text(new, encoding="utf-8")
