"""The review page shows every flagged image with its reasons, by action, and the sample."""

import io
import re
from typing import Any

from PIL import Image

from ecliptic.report import review_page
from ecliptic.tasks import ImageVerdict, Reason


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def verdict(name: str, action: str, score: float) -> ImageVerdict:
    reason = Reason("weapons", score, 0.5, score >= 0.5, "a <sword>", 0.3, note="a note")
    return ImageVerdict(name, action, (reason,), "v1")


def test_images_stand_under_their_action_with_their_reasons() -> None:
    queue = [
        ImageVerdict("broken.png", "reject", (), "v1", "cannot be decoded"),
        verdict("knife.png", "block", 0.9),
        verdict("sword.png", "label", 0.6),
    ]
    sampled = [verdict("pen.png", "allow", 0.1)]
    pictures: dict[str, Any] = {one.name: picture() for one in (*queue, *sampled)}
    pictures["sword.png"] = None
    page = review_page(queue, sampled, pictures, total=50)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "No score: cannot be used",
        "Block",
        "Label",
        "A random sample of the images that were not flagged",
    ]
    assert "3 of 50 images are flagged by rules v1" in page
    assert "weapons: 0.900, threshold 0.500" in page
    assert "most like a &lt;sword&gt;" in page
    assert "a note" in page
    assert "cannot be decoded" in page
    assert page.count("data:image") == 2, "of broken.png and of stored vectors there is no picture"
    assert "+0.40" in page


def test_an_empty_queue_is_a_page_too() -> None:
    page = review_page([], [], {}, total=7)
    assert "0 of 7 images are flagged" in page
    assert "<h2>" not in page


def test_a_long_queue_is_cut_and_says_so() -> None:
    queue = [verdict(f"{number}.png", "label", 0.9) for number in range(1003)]
    page = review_page(queue, [], {}, total=2000)
    assert "1,003 of 2,000 images are flagged" in page
    assert "The first 1,000 are shown." in page
    assert "999.png" in page
    assert "1000.png" not in page
