"""At 80 and at 50 columns no name and no label is split, and nothing is wider than it must be."""

from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from ecliptic.checkpoints import catalog
from ecliptic.cli import output

WIDTHS = [80, 50]


@pytest.fixture(params=WIDTHS)
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


@pytest.fixture
def photos(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Thirty images with names of people, below the current folder."""
    folder = tmp_path / "photos" / "my holiday"
    folder.mkdir(parents=True)
    names = [f"photos/my holiday/IMG {number:04}.png" for number in range(30)]
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).write_bytes((images / "a.png").read_bytes())
    return names


def lines_of(result: Any) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return str(result.stdout).splitlines()


def test_few_labels_of_one_image_are_a_line_each(
    run: Any, model: str, photos: list[str], columns: int
) -> None:
    labels = [f"a photo of label {number}" for number in range(5)]
    shown = lines_of(run("classify", photos[0], "-l", ",".join(labels), "-m", model))
    assert shown[0] == photos[0]
    assert sorted(line.split("%  ")[1] for line in shown[1:]) == labels
    assert max(map(len, shown)) <= columns


def test_few_labels_of_many_images_are_columns_where_they_fit(
    run: Any, model: str, photos: list[str], columns: int
) -> None:
    shown = lines_of(run("classify", "photos", "-l", "cat,dog,rocket", "-m", model))
    assert max(map(len, shown)) <= columns
    assert all(any(line.startswith(name) for line in shown) for name in photos)
    if columns == 80:
        assert shown[0].split() == ["cat", "dog", "rocket"]
        assert len(shown) == 31
    else:
        assert len(shown) == 30 * 5 - 1


def test_many_labels_are_the_best_of_each_image(
    run: Any, model: str, photos: list[str], tmp_path: Path, columns: int
) -> None:
    labels = [f"label {number:03}" for number in range(1000)]
    (tmp_path / "labels").write_text("\n".join(labels))
    more = ["--labels-file", tmp_path / "labels", "-m", model]
    shown = lines_of(run("classify", *photos[:2], *more))
    assert len(shown) == 2 * 6 + 1
    assert {line.split("%  ")[1] for line in shown if "%" in line} <= set(labels)


def test_labels_of_several_words_are_not_wrapped(
    run: Any, model: str, photos: list[str], columns: int
) -> None:
    labels = "golden retriever,space shuttle at night,a very long label of many words indeed"
    shown = "\n".join(lines_of(run("classify", *photos[:3], "-l", labels, "-m", model)))
    for name in (*labels.split(","), *photos[:3]):
        assert name in shown


def test_similarity_names_stay_whole(run: Any, model: str, photos: list[str], columns: int) -> None:
    texts = ["a cat", "a photo of a very happy dog in the snow"]
    words = [word for text in texts for word in ("-t", text)]
    for given in (photos[:1], photos[:2], photos):
        shown = "\n".join(lines_of(run("similarity", *given, *words, "-m", model)))
        assert all(text in shown for text in texts)
        assert given[0] in shown or len(given) > 5
        assert max(map(len, shown.splitlines())) <= columns


def test_similarity_shows_as_many_as_asked_for(
    run: Any, model: str, photos: list[str], columns: int
) -> None:
    shown = lines_of(run("similarity", *photos[:4], "-t", "a", "-m", model, "-k", 2))
    assert [line[:2] for line in shown] == ["a", "  ", "  "]


def test_models_are_one_line_each_below_their_architecture(run: Any, columns: int) -> None:
    shown = lines_of(run("models"))
    assert max(map(len, shown)) <= columns
    assert [line.split()[0] for line in shown if "/" in line] == list(catalog.names())
    assert "ViT-B-32: 151 M parameters, 224 pixels" in shown


@pytest.mark.parametrize(
    "words", [["tokens", "an antidisestablishmentarianist"], ["doctor", "MODEL", "MODEL"]]
)
def test_tables_of_other_commands_fit(
    run: Any, model: str, words: list[str], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(model).parent)
    shown = lines_of(run(*[word.replace("MODEL", Path(model).name) for word in words]))
    assert max(map(len, shown)) <= columns
    assert not any(line.endswith(" ") for line in shown)


def test_facts_are_wrapped_at_spaces(run: Any, columns: int) -> None:
    shown = lines_of(run("info", "mini"))
    assert max(map(len, shown)) <= max(columns, 60)
    assert " ".join(" ".join(shown).split()).count("(attention is causal, so tokens after") == 1


def test_a_pipe_gets_facts_in_one_line(run: Any) -> None:
    (found,) = [line for line in lines_of(run("info", "mini")) if line.startswith("text  ")]
    assert found.endswith(")")


@pytest.mark.parametrize("width", range(8, 60, 3))
def test_no_cell_is_ever_split(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    rows = [("one name", "1.5", "\u732b\u732b"), ("another longer name", "-22.75", "x y z")]
    output.print_table(("name", "number ", "last"), rows)
    shown = capsys.readouterr().out
    assert all(cell in shown for row in rows for cell in row)
    if width >= 34:
        assert [cell_len(line.rpartition("  ")[0]) for line in shown.splitlines()] == [27] * 3
