"""Take screenshots of the demo's page for the docs: on a desktop, in the dark, on a phone.

Needs Chromium (`apt-get install chromium`). Run from the checkout, with `src` on PYTHONPATH or the
package installed:  python scripts/demo_image.py
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from ecliptic.report import demo

FOLDER = Path(__file__).parents[1] / "docs" / "images"
DARK = "(prefers-color-scheme: dark)"
GAP = 24  # pixels between two parts of the page in one image
Part = tuple[str, int, int]  # the style that selects a part of the page, its width and height


def main() -> None:
    """Write the page and the three images."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no chromium on the PATH; install it with `apt-get install chromium`.")
    wide = [("", 860, 1180), (_skip(1), 860, 1180)]
    phone = [("", 390, 844), (_skip(1), 390, 844), (_skip(3), 390, 844), (_skip(4), 390, 844)]
    with TemporaryDirectory() as folder:
        page = demo(Path(folder) / "demo.html").path
        text = page.read_text(encoding="utf-8")
        _draw(browser, page, text, wide, FOLDER / "demo.png")
        dark = text.replace(DARK, "all").replace("light dark", "dark")
        _draw(
            browser,
            page,
            dark,
            [(_skip(3), 860, 760), (_skip(4), 860, 760)],
            FOLDER / "demo-dark.png",
        )
        _draw(browser, page, text, phone, FOLDER / "demo-phone.png")


def _skip(count: int) -> str:
    """The style that hides the header and the first `count` sections."""
    return (
        f"header, section:nth-of-type(-n + {count}) {{ display: none }} "
        "main { margin-top: -3.5rem }"
    )


def _draw(browser: str, page: Path, text: str, parts: list[Part], out: Path) -> None:
    """Write one image with the parts of the page side by side."""
    shots = [_shoot(browser, page, text, part) for part in parts]
    width = sum(shot.width for shot in shots) + GAP * (len(shots) - 1)
    joined = Image.new(
        "RGB", (width, max(shot.height for shot in shots)), shots[0].getpixel((0, 0))
    )
    place = 0
    for shot in shots:
        joined.paste(shot, (place, 0))
        place += shot.width + GAP
    out.parent.mkdir(parents=True, exist_ok=True)
    joined.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)
    print(f"{out}: {out.stat().st_size // 1024} KiB")


def _shoot(browser: str, page: Path, text: str, part: Part) -> Image.Image:
    """Take a screenshot of a part; a frame gives phones their width, which windows do not have."""
    style, width, height = part
    shown, frame, shot = (page.with_name(name) for name in ("shown.html", "frame.html", "shot.png"))
    shown.write_text(text.replace("</style>", f"{style}</style>"), encoding="utf-8")
    frame.write_text(
        f"<style>body {{ margin: 0 }} iframe {{ border: 0; width: {width}px; height: {height}px }}"
        f'</style><iframe src="{shown.name}" scrolling="no"></iframe>',
        encoding="utf-8",
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = f"--window-size={max(width, 600)},{height + 200}"
    command = [browser, *flags, size, f"--screenshot={shot}", frame.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(shot) as image:
        return image.convert("RGB").crop((0, 0, width, height))


if __name__ == "__main__":
    main()
