"""Draw docs/images/demo.png: two parts of the demo's page, side by side.

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

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "demo.png"
PARTS = (  # styles: the whole page, and the page from its fourth section on
    "",
    "header, section:nth-of-type(-n + 3) { display: none } main { margin-top: -3.5rem }",
)
WIDTH, HEIGHT = 820, 1290  # pixels of each part


def main() -> None:
    """Write the page, take a screenshot of each part, join them."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no chromium on the PATH; install it with `apt-get install chromium`.")
    with TemporaryDirectory() as folder:
        page = demo(Path(folder) / "demo.html").path
        shots = [_shoot(browser, page, style) for style in PARTS]
    joined = Image.new("RGB", (WIDTH * len(shots), HEIGHT))
    for place, shot in enumerate(shots):
        joined.paste(shot, (place * WIDTH, 0))
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    joined.save(IMAGE, optimize=True)
    print(f"{IMAGE}: {IMAGE.stat().st_size // 1024} KiB")


def _shoot(browser: str, page: Path, style: str) -> Image.Image:
    """Take a screenshot of `page` with `style` added, in a window of WIDTH x HEIGHT."""
    shown, shot = page.with_name("shown.html"), page.with_name("shot.png")
    whole = page.read_text(encoding="utf-8")
    shown.write_text(whole.replace("</style>", f"{style}</style>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    size = f"--window-size={WIDTH},{HEIGHT}"
    command = [browser, *flags, size, f"--screenshot={shot}", shown.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(shot) as image:
        return image.convert("RGB").crop((0, 0, WIDTH, HEIGHT))


if __name__ == "__main__":
    main()
