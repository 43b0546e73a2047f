"""`ecliptic index`: counts, rejects, exit codes, and flags that are refused without an effect."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from ecliptic.checkpoints import write
from ecliptic.library import Library
from tests import tiny
from tests.library.photos import save_photo

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "b.png", "sub/c.png")):
        save_photo(folder / name, seed)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "photos.library"


def test_a_new_library_and_the_next_runs(run: Any, model: str, photos: Path, out: Path) -> None:
    found = run("index", photos, "--out", out, "--model", model)
    assert (found.exit_code, found.stdout) == (0, "")
    assert found.stderr.splitlines() == [
        f"new library {out}, with the model tiny-vit",
        f"3 added; {out} has 3 pictures",
    ]
    (photos / "b.png").unlink()
    (photos / "a.png").rename(photos / "z.png")
    found = run("index", photos, "-o", out)
    assert found.stderr.splitlines() == [
        f"1 file gone: {photos}/b.png; --prune removes them from the library",
        f"1 moved, 1 unchanged, 1 gone; {out} has 3 pictures",
    ]
    found = run("index", photos, "-o", out, "--prune")
    assert found.stderr.splitlines()[-1] == f"1 removed, 2 unchanged; {out} has 2 pictures"
    assert found.exit_code == 0


def test_rejects_are_named_once_and_the_exit_code_is_3(
    run: Any, model: str, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    found = run("index", ".", "-o", out, "-m", model)
    assert found.exit_code == 3
    assert "rejected broken.png: " in found.stderr
    assert str(images) not in found.stderr
    found = run("index", ".", "-o", out)
    assert found.exit_code == 0
    assert "1 picture rejected before; --retry tries again" in found.stderr
    assert run("index", ".", "-o", out, "--retry").exit_code == 3


def test_json_is_all_of_stdout(run: Any, model: str, images: Path, out: Path) -> None:
    found = run("index", images, "-o", out, "-m", model, "--json")
    data = json.loads(found.stdout)
    assert (data["pictures"], data["added"], data["interrupted"]) == (2, 2, False)
    assert [one["id"] for one in data["rejected"]] == [str(images / "broken.png")]


def test_a_library_inside_the_folder_is_not_taken_for_pictures(
    run: Any, model: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for counted in ("3 added", "3 unchanged"):
            found = run("index", ".", "-m", model)
            assert found.stderr.splitlines()[-1] == f"{counted}; ecliptic.library has 3 pictures"


def test_many_rejects_are_counted(run: Any, model: str, photos: Path, out: Path) -> None:
    for number in range(30):
        (photos / f"bad{number}.png").write_bytes(b"no")
    found = run("index", photos, "-o", out, "-m", model)
    assert found.stderr.count("rejected ") <= 22
    assert f"and 10 more; `ecliptic library rejects {out}` lists them" in found.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name images, folders or tables"),
        (["photos", "--cache", "c"], "--cache does nothing here"),
        (["photos/a.png", "--prune"], "--prune needs a folder, a glob, a tar or a table"),
        (["photos", "--reembed", "-m", "mini"], "leave PATH out"),
        (["--reembed"], "--reembed needs --model"),
        (["--reembed", "-m", "mini", "--prune", "--retry"], "--prune, --retry: no effect"),
        (["--reembed", "-m", "mini", "--batch-size", "2"], "--batch-size: no effect"),
        (["--reembed", "-m", "mini", "--id", "n"], "--id: no effect"),
        (["photos", "--batch-size", "0"], "must be 1 or more"),
        (["t.csv"], "needs --column"),
        (["photos", "--keep", "year"], "--keep is for tables"),
        (["t.csv", "--column", "file", "--keep", "Year"], "cannot be the name of a column"),
    ],
)
def test_wrong_usage_makes_no_library(
    run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(photos.parent)
    Path("t.csv").write_text("file\nphotos/a.png\n")
    found = run("index", *words)
    assert found.exit_code == 2, found.output
    assert message in " ".join(found.stderr.split())
    assert not Path("ecliptic.library").exists()


def test_missing_sources_fail_before_a_library_is_made(run: Any, out: Path) -> None:
    found = run("index", "missing", "-o", out)
    assert found.exit_code == 1
    assert "there is no file or folder missing" in found.stderr
    assert not out.exists()


def test_ids_of_paths_are_refused(run: Any, model: str, photos: Path, out: Path) -> None:
    (photos / "t.csv").write_text("file,n\na.png,1\n")
    found = run("index", photos / "t.csv", "--column", "file", "--id", "n", "-o", out, "-m", model)
    assert found.exit_code == 1
    assert "names files by their paths" in found.stderr


def test_another_model_is_refused_and_reembed_changes_to_it(
    run: Any, model: str, photos: Path, out: Path, tmp_path: Path
) -> None:
    other = tmp_path / "second"
    write(tiny.checkpoint("vit", seed=1), other)
    run("index", photos, "-o", out, "-m", model)
    found = run("index", photos, "-o", out, "-m", other)
    assert found.exit_code == 1
    assert "was made with tiny-vit (space " in found.stderr
    assert "embed the pictures anew with --reembed" in found.stderr
    (photos / "b.png").unlink()
    found = run("index", "--reembed", "-o", out, "-m", other)
    assert found.exit_code == 1
    assert "The library keeps its old vectors" in found.stderr
    assert run("index", photos, "-o", out, "--prune", "-m", model).exit_code == 0
    found = run("index", "--reembed", "-o", out, "-m", other)
    assert (found.exit_code, "2 unchanged" in found.stderr) == (0, True)
    found = run("search", out, "a cat")
    assert (found.exit_code, len(found.stdout.splitlines())) == (0, 3)
    assert run("index", photos, "-o", out).exit_code == 0


def test_an_existing_folder_that_is_no_library_is_refused(
    run: Any, model: str, photos: Path
) -> None:
    found = run("index", photos, "-o", photos, "-m", model)
    assert found.exit_code == 1
    assert "holds something else" in found.stderr


def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(
    model: str, tmp_path: Path, out: Path, run: Any
) -> None:
    folder = tmp_path / "many"
    for seed in range(400):
        save_photo(folder / f"{seed:03}.png", seed, 12, 10)
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored under nohup
        "from ecliptic.library.filling import adding\n"
        "adding.MOST_ROWS = 8\n"
        "from ecliptic.cli.main import run\n"
        "run()\n"
    )
    words = ["index", str(folder), "-o", str(out), "-m", model, "--batch-size", "4"]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    with child:
        end = time.monotonic() + 100
        while not (out / "thumbnails" / "checksums.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGINT)
        _, stderr = child.communicate(timeout=100)
    assert child.returncode == 130, stderr
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    found = run("index", folder, "-o", out)
    assert found.exit_code == 0
    with Library.open(out) as library:
        assert len(library) == 400
        assert library.check(deep=True) == []


def test_another_type_of_a_kept_column_is_refused(run: Any, photos: Path, out: Path) -> None:
    table = photos.parent / "t.csv"
    table.write_text(f"file,year\n{sorted(photos.glob('*.png'))[0]},1999\n")
    words = ["index", table, "--column", "file", "-o", out]
    assert run(*words, "--keep", "year:int").exit_code == 0
    found = run(*words, "--keep", "year:float")
    assert found.exit_code == 1
    assert "holds int, not float; write --keep year:int" in " ".join(found.stderr.split())


def test_a_library_that_stays_empty_by_a_mistake_is_not_made(
    run: Any, photos: Path, out: Path
) -> None:
    table = photos.parent / "t.csv"
    table.write_text(f"file,year\n{sorted(photos.glob('*.png'))[0]},1999\n")
    (empty := photos.parent / "empty").mkdir()
    found = run("index", empty, "-o", out)
    assert (found.exit_code, out.exists()) == (1, False)
    assert "is not made" in found.stderr
    found = run("index", table, "--column", "file", "--keep", "year:int", "-o", out)
    assert found.exit_code == 0
    assert run("index", table, "--column", "fil", "-o", out).exit_code == 1
    assert out.exists()


def test_a_name_without_a_file_makes_no_library(run: Any, photos: Path, out: Path) -> None:
    found = run("index", photos.parent / "*.nothing", "-o", out, "--json")
    assert (found.exit_code, out.exists()) == (3, False)
    assert json.loads(found.stdout)["pictures"] == 0
    assert f"nothing was found, so {out} is not made" in " ".join(found.stderr.split())


def test_pictures_of_a_missing_disk_stay_until_all_are_pruned(
    run: Any, photos: Path, out: Path, model: str
) -> None:
    run("index", photos, "-o", out, "-m", model)
    before = json.loads(run("library", "info", out, "--json").stdout)["pictures"]
    photos.rename(photos.with_name("elsewhere"))
    found = run("index", photos, "-o", out, "--prune")
    assert found.exit_code == 0
    told = " ".join(found.stderr.split())
    assert f"{before} files gone, perhaps with a disk that is not connected: " in told
    assert "they stay in the library, --prune-all removes them" in told
    assert json.loads(run("library", "info", out, "--json").stdout)["pictures"] == before
    assert run("index", photos, "-o", out, "--prune-all").exit_code == 0
    assert json.loads(run("library", "info", out, "--json").stdout)["pictures"] == 0


def test_a_wrong_column_is_told_before_a_library_is_made(run: Any, photos: Path, out: Path) -> None:
    table = photos.parent / "t.csv"
    table.write_text("file\na.png\n")
    found = run("index", photos, table, "--column", "fil", "-o", out)
    assert (found.exit_code, out.exists()) == (1, False)
    assert "has no column 'fil'" in found.stderr
    assert "new library" not in found.stderr


def test_a_table_that_is_gone_is_pruned_with_its_column(
    run: Any, photos: Path, out: Path, model: str
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = photos.parent / "t.parquet"
    images = [path.read_bytes() for path in sorted(photos.glob("*.png"))]
    pq.write_table(pa.table({"image": images}), table)
    words = ["index", table, "--column", "image", "-o", out]
    assert run(*words, "-m", model).exit_code == 0
    table.unlink()
    found = run(*words, "--prune")
    assert found.exit_code == 0, found.stderr
    assert f"{len(images)} removed" in found.stderr
