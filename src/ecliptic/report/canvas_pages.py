"""The pages of a sketch and of an edit: what was made, how it came about, and its loss."""

from collections.abc import Iterable

from ecliptic.guidance import Edit, Frame, Optimised, Sketch, to_bytes
from ecliptic.markup import Html, tag
from ecliptic.report.contact_sheet import Tile, contact_sheet
from ecliptic.report.loss_curve import loss_curve

_LARGE = 384  # pixels of the side of a sketch


def sketch_page(sketch: Sketch, model: str) -> Html:
    """The drawing, its way and its loss.

    Args:
        sketch: what was drawn.
        model: the name of the model that judged it.
    """
    lead = (
        f"Drawn with {len(sketch.canvas.strokes()):,} strokes in {len(sketch.way.losses):,} steps. "
        f"By {model} its cosine with the text went from {sketch.before:.3f} to {sketch.after:.3f}. "
        "The drawing is what the model looks for, which may not be what a person sees."
    )
    drawing = to_bytes(sketch.canvas.enlarge((_LARGE, _LARGE)))
    tiles = [Tile(drawing, sketch.text, ("the drawing",), f"{sketch.after:.3f}")]
    return _page(f"Sketch: {sketch.text}", lead, tiles, sketch.way)


def edit_page(edit: Edit, source: str, target: str, model: str) -> Html:
    """The picture before and after, the way and the loss.

    Args:
        edit: what was made.
        source: the text of the picture before.
        target: the text of the picture after.
        model: the name of the model that judged it.
    """
    lead = (
        f"Edited in {len(edit.way.losses):,} steps. By {model} the cosine of the change of the "
        f"picture with the change of the words is {edit.along:.3f}; the cosine with “{target}” "
        f"rose by {edit.moved:.3f}. That is what the model sees; a person may see something else."
    )
    tiles = [
        Tile(to_bytes(edit.before), "before", (source,)),
        Tile(to_bytes(edit.after), "after", (target,)),
    ]
    return _page(f"Edit: {source} to {target}", lead, tiles, edit.way)


def _page(title: str, lead: str, tiles: Iterable[Tile], way: Optimised) -> Html:
    stopped = f" It stopped early: {way.notice}" if way.stopped else ""
    curve = tag("section", tag("h2", "Loss"), loss_curve(way.losses)) if way.losses else ""
    sections = [("The way", map(_show_frame, way.frames))]
    return contact_sheet(title, lead + stopped, tiles, sections, figure=curve)


def _show_frame(frame: Frame) -> Tile:
    name = f"step {frame.step:,}" if frame.step else "start"
    return Tile(to_bytes(frame.picture), name, (f"loss {frame.loss:.3f}",))
