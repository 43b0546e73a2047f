"""The review queue of a moderator as one page of pictures; each says why it is there.

Names stand without their folders, which tell about whoever shares the page, unless two are equal.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ecliptic.engine import IMAGE_SUFFIXES
from ecliptic.markup import Html
from ecliptic.report.contact_sheet import Tile, contact_sheet, shorten_names
from ecliptic.tasks import ImageVerdict

TITLE = "Images to review"
LEAD = (
    "{flagged} of {total} images are flagged by rules {rules}, the strongest action first. A flag "
    "is a guess of a model: look before you act. The number on a picture is by how much its score "
    "is above the threshold. Nothing was deleted, moved or changed. The pictures are whole and "
    "upright here, but most models see only the centre square of a picture, as it is stored, and "
    "of an animation the first frame."
)
LIMIT = 300  # images of a section, of some 8 KB each
SECTIONS = {  # action -> heading
    "block": "Block",
    "review": "Review",
    "label": "Label",
    "reject": "No score: cannot be used",
}
SAMPLE = "A random sample of the images that were not flagged"


def review_page(
    queue: Sequence[ImageVerdict], sampled: Iterable[ImageVerdict], *, total: int
) -> Html:
    """The page of the flagged images and of the sample, each with its `source` as the picture.

    Args:
        queue: flagged images in their order; of each action the first `LIMIT` are shown.
        sampled: others that a person should look at; at most as many are shown.
        total: images that were moderated.
    """
    sampled = list(sampled)
    version = next((one.rules for one in (*queue, *sampled)), "")
    parts = [
        (heading, [one for one in queue if one.action == action])
        for action, heading in SECTIONS.items()
    ]
    shown = [(head, len(some), some[:LIMIT]) for head, some in (*parts, (SAMPLE, sampled))]
    short = shorten_names(one.name for _, _, some in shown for one in some)
    sections = [
        (_count_hidden(head, total), [_tile(one, short[one.name]) for one in some])
        for head, total, some in shown
    ]
    lead = LEAD.format(flagged=f"{len(queue):,}", total=f"{total:,}", rules=version or "unknown")
    return contact_sheet(TITLE, lead, (), sections)


def _count_hidden(heading: str, count: int) -> str:
    """The heading, and how many of its images the page shows if it is not all of them."""
    return heading if count <= LIMIT else f"{heading} (the first {LIMIT:,} of {count:,} are shown)"


def _tile(verdict: ImageVerdict, name: str) -> Tile:
    picture = None if verdict.error else verdict.source
    badge = f"{verdict.reasons[0].margin:+.2f}" if verdict.reasons else ""
    return Tile(picture, name, tuple(_lines(verdict, name)), badge)


def _lines(verdict: ImageVerdict, name: str) -> Iterator[str]:
    """Why it is in the queue: every flagged concept, or the nearest one."""
    if verdict.error:
        yield verdict.error.replace(verdict.name, name)
    flagged = [reason for reason in verdict.reasons if reason.flagged] or verdict.reasons[:1]
    for reason in flagged:
        yield f"{reason.concept}: {reason.score:.3f}, threshold {reason.threshold:.3f}"
        if reason.nearest:
            yield f"most like {_without_folders(reason.nearest)}"
        if reason.note:
            yield reason.note


def _without_folders(prototype: str) -> str:
    """The last part of the path of an example image; a text as it is."""
    path = Path(prototype)
    image = path.is_absolute() or path.suffix.lower() in IMAGE_SUFFIXES
    return path.name if image else prototype
