"""The review queue of a moderator as one page of pictures; each says why it is there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ecliptic.markup import Html
from ecliptic.report.contact_sheet import Tile, contact_sheet
from ecliptic.tasks import ImageVerdict

TITLE = "Images to review"
LEAD = (
    "{flagged} of {total} images are flagged by rules {rules}, the strongest action first. A flag "
    "is a guess of a model: look before you act. Nothing was deleted, moved or changed."
)
MORE = " The first {limit} are shown."
LIMIT = 1000  # flagged images on a page, of some 8 KB each
SECTIONS = {  # action -> heading
    "reject": "No score: cannot be used",
    "block": "Block",
    "review": "Review",
    "label": "Label",
}
SAMPLE = "A random sample of the images that were not flagged"


def review_page(
    queue: Sequence[ImageVerdict],
    sampled: Iterable[ImageVerdict],
    pictures: Mapping[str, Any],
    *,
    total: int,
) -> Html:
    """The page of the flagged images and of the sample.

    Args:
        queue: flagged images in their order; the first `LIMIT` are shown.
        sampled: others that a person should look at.
        pictures: what to show, by the name of the image; None or missing: no picture.
        total: images that were moderated.
    """
    sampled = list(sampled)
    version = next((one.rules for one in (*queue, *sampled)), "")
    shown = queue[:LIMIT]
    sections = [
        (heading, [_tile(one, pictures) for one in shown if one.action == action])
        for action, heading in SECTIONS.items()
    ]
    sections.append((SAMPLE, [_tile(one, pictures) for one in sampled]))
    lead = LEAD.format(flagged=f"{len(queue):,}", total=f"{total:,}", rules=version or "unknown")
    if len(queue) > LIMIT:
        lead += MORE.format(limit=f"{LIMIT:,}")
    return contact_sheet(TITLE, lead, (), sections)


def _tile(verdict: ImageVerdict, pictures: Mapping[str, Any]) -> Tile:
    picture = None if verdict.error else pictures.get(verdict.name)
    badge = f"{verdict.reasons[0].margin:+.2f}" if verdict.reasons else ""
    return Tile(picture, verdict.name, tuple(_lines(verdict)), badge)


def _lines(verdict: ImageVerdict) -> Iterator[str]:
    """Why it is in the queue: every flagged concept, or the nearest one."""
    if verdict.error:
        yield verdict.error
    flagged = [reason for reason in verdict.reasons if reason.flagged] or verdict.reasons[:1]
    for reason in flagged:
        yield f"{reason.concept}: {reason.score:.3f}, threshold {reason.threshold:.3f}"
        if reason.nearest:
            yield f"most like {reason.nearest}"
        if reason.note:
            yield reason.note
