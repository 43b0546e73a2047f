"""The review page shows every flagged image with its reasons, by action, and the sample."""

import io
import re
from dataclasses import replace

from PIL import Image

from ecliptic.report import review_page
from ecliptic.report.review import LIMIT
from ecliptic.tasks import ImageVerdict, Reason


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def verdict(name: str, action: str, score: float) -> ImageVerdict:
    reason = Reason("weapons", score, 0.5, score >= 0.5, "a <sword>", 0.3, note="a note")
    return ImageVerdict(name, action, (reason,), "v1", source=picture())


def test_images_stand_under_their_action_with_their_reasons() -> None:
    queue = [
        ImageVerdict("broken.png", "reject", (), "v1", "cannot be decoded", picture()),
        verdict("knife.png", "block", 0.9),
        replace(verdict("sword.png", "label", 0.6), source=None),
    ]
    page = review_page(queue, [verdict("pen.png", "allow", 0.1)], total=50)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Block",
        "Label",
        "No score: cannot be used",
        "A random sample of the images that were not flagged",
    ]
    assert "3 of 50 images are flagged by rules v1" in page
    assert "weapons: 0.900, threshold 0.500" in page
    assert "most like a &lt;sword&gt;" in page
    assert "a note" in page
    assert "cannot be decoded" in page
    assert page.count("data:image") == 2, "of broken.png and of stored vectors there is no picture"
    assert "+0.40" in page
    assert "number on a picture is by how much its score is above the threshold" in page


def test_an_empty_queue_is_a_page_too() -> None:
    page = review_page([], [], total=7)
    assert "0 of 7 images are flagged" in page
    assert "<h2>" not in page


def test_a_long_section_is_cut_and_says_so_and_hides_no_other() -> None:
    bad = [ImageVerdict(f"bad{n}.png", "reject", (), "v1", "broken") for n in range(LIMIT + 5)]
    queue = [*bad, verdict("knife.png", "block", 0.9)]
    sampled = [replace(verdict(f"{n}.png", "allow", 0.1), source=None) for n in range(4000)]
    page = review_page(queue, sampled, total=5000)
    assert f"{len(queue):,} of 5,000 images are flagged" in page
    assert page.index("knife.png") < page.index("bad0.png"), "the blocked image is not hidden"
    assert f"cannot be used (the first {LIMIT:,} of {LIMIT + 5:,} are shown)" in page
    assert f"not flagged (the first {LIMIT:,} of 4,000 are shown)" in page
    assert f"bad{LIMIT - 1}.png" in page
    assert f"bad{LIMIT}.png" not in page
    assert page.count("<article") == 2 * LIMIT + 1


def test_images_of_one_name_are_told_apart() -> None:
    queue = [verdict(f"mine/{folder}/1.png", "block", 0.9) for folder in ("new", "old")]
    page = review_page(queue, [verdict("mine/new/2.png", "allow", 0.1)], total=3)
    assert re.findall("<h3>(.*?)</h3>", page) == ["new/1.png", "old/1.png", "2.png"]
    assert "mine" not in page


def test_names_stand_without_folders() -> None:
    broken = ImageVerdict(
        "/srv/mine/broken.png", "reject", (), "v1", "'/srv/mine/broken.png' cannot be decoded"
    )
    reasons = [
        Reason("weapons", 0.9, 0.5, flagged=True, nearest=nearest)
        for nearest in ("/srv/mine/knives/knife", "mine/swords/sword.PNG", "a knife/dagger")
    ]
    found = ImageVerdict("mine/photos/1.jpg", "block", tuple(reasons), "v1")
    page = review_page([broken, found], [], total=2)
    assert "mine" not in page
    assert "&#x27;broken.png&#x27; cannot be decoded" in page
    assert "<h3>1.jpg</h3>" in page
    assert re.findall(r"most like (.*?)</li>", page) == ["knife", "sword.PNG", "a knife/dagger"]
