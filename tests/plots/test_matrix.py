import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.plots import SEQUENTIAL, MatrixStyle, similarity_matrix

VALUES = np.array([[0.9, 0.1, 0.2], [0.0, 0.5, 0.3]])
RED = Image.new("RGB", (40, 20), "red")


def colours(image: Image.Image) -> set[tuple[int, int, int]]:
    return set(map(tuple, np.asarray(image).reshape(-1, 3).tolist()))


def test_a_matrix_spans_the_whole_colour_map() -> None:
    drawn = similarity_matrix(VALUES, ["cat", "dog"], ["a", "b", "c"])
    assert drawn.mode == "RGB"
    assert {SEQUENTIAL[0], SEQUENTIAL[-1]} <= colours(drawn)


def test_a_fixed_range_makes_two_plots_comparable() -> None:
    style = MatrixStyle(low=-1.0, high=1.0)
    drawn = similarity_matrix(VALUES, ["cat", "dog"], ["a", "b", "c"], style=style)
    assert SEQUENTIAL[-1] not in colours(drawn)


def test_tensors_arrays_and_lists_draw_the_same() -> None:
    labels = (["cat", "dog"], ["a", "b", "c"])
    drawn = [similarity_matrix(v, *labels) for v in (VALUES, VALUES.tolist())]
    drawn.append(similarity_matrix(torch.from_numpy(VALUES), *labels))
    assert drawn[0].tobytes() == drawn[1].tobytes() == drawn[2].tobytes()


def test_images_become_thumbnails_on_either_axis() -> None:
    assert (255, 0, 0) in colours(similarity_matrix(VALUES, ["cat", "dog"], [RED] * 3))
    assert (255, 0, 0) in colours(similarity_matrix(VALUES, [RED] * 2, ["a", "b", "c"]))


def test_long_column_labels_stand_upright() -> None:
    short = similarity_matrix(VALUES, ["cat", "dog"], ["a", "b", "c"])
    long = similarity_matrix(VALUES, ["cat", "dog"], ["a", "b", "a carousel horse"])
    assert long.width == short.width
    assert long.height > short.height


def test_a_label_of_any_length_leaves_the_plot_readable() -> None:
    drawn = similarity_matrix(VALUES, ["word " * 500, ""], ["a", "b", "\n"])
    assert drawn.width < 1000


def test_labels_show_controls_as_escapes() -> None:
    for hostile, shown in (("a\x1b\u202eb", r"a\x1b\u202eb"), ("\udc80", r"\udc80")):
        drawn = similarity_matrix(VALUES, [hostile, "x"], ["a", "b", "c"], title=hostile)
        same = similarity_matrix(VALUES, [shown, "x"], ["a", "b", "c"], title=shown)
        assert drawn == same


def test_the_best_of_each_row_is_framed_unless_told_not_to() -> None:
    plain = MatrixStyle(mark_best=False)
    labels = (["cat", "dog"], ["a", "b", "c"])
    assert similarity_matrix(VALUES, *labels) != similarity_matrix(VALUES, *labels, style=plain)


def test_small_cells_drop_their_numbers() -> None:
    one, two = np.full((2, 2), 0.25), np.full((2, 2), 0.75)
    labels = (["a", "b"], ["c", "d"])
    tiny = MatrixStyle(cell=16)
    assert similarity_matrix(one, *labels) != similarity_matrix(two, *labels)
    assert similarity_matrix(one, *labels, style=tiny) == similarity_matrix(
        two, *labels, style=tiny
    )


def test_a_value_that_rounds_to_zero_has_no_minus() -> None:
    labels = (["a"], ["b"])
    style = MatrixStyle(low=-1, high=1)
    zero = similarity_matrix([[0.0]], *labels, style=style)
    below = similarity_matrix([[-1e-9]], *labels, style=style)
    assert zero == below


@pytest.mark.parametrize(
    ("values", "rows", "columns"),
    [
        (VALUES, ["one"], ["a", "b", "c"]),
        (VALUES, ["one", "two"], ["a"]),
        (np.zeros((0, 0)), [], []),
        ([[np.nan]], ["a"], ["b"]),
        ([[np.inf]], ["a"], ["b"]),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    values: object, rows: list[str], columns: list[str]
) -> None:
    with pytest.raises(ShapeError):
        similarity_matrix(values, rows, columns)  # type: ignore[arg-type]


def test_a_range_that_is_upside_down_is_refused() -> None:
    with pytest.raises(ConfigError, match="smaller than high"):
        MatrixStyle(low=1.0, high=0.0)


def test_drawing_needs_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, ecliptic.plots as p; p.similarity_matrix([[1.0]], ['a'], ['b']); "
        "sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
