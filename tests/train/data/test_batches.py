"""Batches depend on the settings and the step alone: not on workers, processes or bad examples."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import torch

from ecliptic.errors import ConfigError, InputError, StorageError
from ecliptic.inputs import ImageSource, ImageSpec, Tokenizer, TokenizerSpec
from ecliptic.model import ClipConfig, TextConfig, ViTConfig
from ecliptic.train.batch import Batch
from ecliptic.train.data import Data, Example, Prepared, open_data
from ecliptic.train.data.batches import Batches, BatchMaker, caption_ids, tokenize
from ecliptic.train.data.examples import count_examples
from ecliptic.train.data.mixture import Mixture
from ecliptic.train.settings import (
    DataSettings,
    DrawingsConfig,
    FolderConfig,
    TarsConfig,
    TrainSettings,
)
from tests.train.drawings import write_data

from .pictures import pairs, png, write_tar

SPEC = TokenizerSpec(merges=300, context=24)
PIXELS = ImageSpec(size=32)
TOKENIZER = Tokenizer(SPEC)
MODEL = ClipConfig(
    embed=16,
    image=ViTConfig(image_size=32, patch_size=16, width=16, depth=1, heads=2, mlp=16),
    text=TextConfig(
        vocabulary=SPEC.vocabulary, context=24, width=16, depth=1, heads=2, mlp=16,
        end_of_text=SPEC.end_of_text,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings, a folder and tars; one picture of the folder is damaged."""
    root = write_data(tmp_path_factory.mktemp("data"))
    write_tar(root / "0.tar", pairs(0, 7))
    write_tar(root / "1.tar", pairs(7, 20))
    (root / "folder").mkdir()
    for number in range(9):
        damaged = b"no picture" if number == 4 else png(number)
        (root / "folder" / f"{number}.png").write_bytes(damaged)
        (root / "folder" / f"{number}.txt").write_text(f"file {number}\nnumber {number}")
    return root


def open_all(root: Path, rank: int = 0, size: int = 1, **data: object) -> Data:
    sources = (
        DrawingsConfig(Path("emoji"), designs=("flat", "thin"), weight=2.0),
        FolderConfig(Path("folder")),
        TarsConfig("{0..1}.tar"),
    )
    settings = TrainSettings(
        model=MODEL, image_spec=PIXELS, tokenizer_spec=SPEC, seed=3,
        data=DataSettings(root=root, sources=sources, batch=11, augment="drawings", **data),  # type: ignore[arg-type]
    )  # fmt: skip
    return open_data(settings, PIXELS, TOKENIZER, rank, size)


def assert_equal(one: Batch, other: Batch) -> None:
    assert torch.equal(one.pixels, other.pixels)
    assert torch.equal(one.captions, other.captions)
    assert torch.equal(one.lengths, other.lengths)
    assert (one.texts, one.keys) == (other.texts, other.keys)


def join(parts: Sequence[Batch]) -> Batch:
    """The batches of several processes as one, without tokens."""
    return Batch(
        torch.cat([part.pixels for part in parts]),
        torch.empty(0),
        torch.cat([part.lengths for part in parts]),
        torch.cat([part.captions for part in parts]),
        [text for part in parts for text in part.texts],
        [key for part in parts for key in part.keys],
    )


def test_workers_and_processes_change_nothing(root: Path) -> None:
    alone = list(open_all(root).batches.iterate(2, 8))
    assert [len(one.batch) for one in alone] == [11] * 6
    worked = list(open_all(root, workers=2).batches.iterate(2, 8))
    ranks = [list(open_all(root, rank, 4).batches.iterate(2, 8)) for rank in range(4)]
    assert {len(one.batch) for one in ranks[0]} == {2}  # 2, 3, 3, 3 rows
    for step, one in enumerate(alone):
        assert_equal(one.batch, worked[step].batch)
        assert torch.equal(one.batch.tokens, worked[step].batch.tokens)
        assert one.rejects == worked[step].rejects
        assert_equal(one.batch, join([rank[step].batch for rank in ranks]))
    later = next(open_all(root).batches.iterate(7, 8))
    assert_equal(later.batch, alone[5].batch)


def test_a_share_that_holds_nothing_out_is_refused(root: Path) -> None:
    lengths = open_all(root).mixture.lengths
    most = max(lengths)
    with pytest.raises(ConfigError, match=rf"held_out = 1e-09 .* {most} ex.* {1 / most:.2g}; set"):
        open_all(root, held_out=1e-9)
    assert sum(open_all(root, held_out=1 / most).mixture.held) >= 1


def test_bytes_are_normalised_on_the_device(root: Path) -> None:
    batch = open_all(root).maker[0].batch
    assert batch.pixels.dtype == torch.uint8
    pixels = batch.normalised("cpu")
    assert pixels.dtype == torch.float32
    mean, std = torch.tensor(PIXELS.mean), torch.tensor(PIXELS.std)
    back = pixels * std.view(3, 1, 1) + mean.view(3, 1, 1)
    torch.testing.assert_close(back * 255, batch.pixels.float(), atol=1e-3, rtol=0)
    assert torch.equal(batch.part(2, 5).normalised("cpu"), pixels[2:5])
    plain = Batch(pixels, batch.tokens, batch.lengths, batch.captions)
    assert plain.normalised("cpu") is pixels


def test_bad_examples_are_named_and_replaced_always_by_the_same_ones(root: Path) -> None:
    found = [one for one in open_all(root).batches.iterate(0, 12) if one.rejects]
    assert found
    again = [one for one in open_all(root, workers=1).batches.iterate(0, 12) if one.rejects]
    for one, other in zip(found, again, strict=True):
        assert_equal(one.batch, other.batch)
        [reject] = one.rejects
        assert (reject.source, reject.index, reject.kind) == (1, 4, "ImageError")
        assert reject.key == "4.png"
        assert "4.png" in reject.reason
        assert len(one.batch) == 11
        assert "4.png" not in one.batch.keys
    alone = open_all(root)
    clean = [one for one in alone.batches.iterate(0, 12) if not one.rejects]
    assert len(clean) + len(found) == 12


class Broken:
    """A source in which nothing, or all but one, can be read."""

    def __init__(self, good: int = -1, kill: bool = False) -> None:
        self.good, self.kill = good, kill

    def __len__(self) -> int:
        return 4

    def draw(self, index: int, random: Random) -> Example:
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if index != self.good:
            raise InputError(f"example {index} is bad.")
        return Example(f"{index}", png(index), "good")

    def picture(self, index: int) -> ImageSource:
        return png(index)

    def captions(self, index: int) -> tuple[str, ...]:
        return ("good",)

    def fingerprint(self) -> str:
        return "x"


def batches_of(source: Broken, workers: int) -> Batches:
    from ecliptic.train.data import Plain

    mixture = Mixture([4], [1.0], 3, 0)
    maker = BatchMaker([source], mixture, Plain(PIXELS), TOKENIZER, 0)
    return Batches(maker, workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_in_which_nothing_can_be_read_ends_the_run(workers: int) -> None:
    with pytest.raises(
        StorageError, match=r"^10 examples in a row of source 0 .* example \d is bad"
    ):
        next(batches_of(Broken(), workers).iterate(0, 2))


def test_one_good_example_is_enough() -> None:
    [prepared] = batches_of(Broken(good=2), 0).iterate(0, 1)
    assert prepared.batch.keys == ["2", "2", "2"]
    assert len(prepared.rejects) >= 2


def test_a_worker_that_is_killed_is_named() -> None:
    with pytest.raises(StorageError, match=r"a process that prepares batches has died.*memory"):
        next(batches_of(Broken(kill=True), 1).iterate(0, 2))


def children() -> set[int]:
    """Processes of this session whose command is a worker of multiprocessing."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
                status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if b"forkserver" in command and status[0] != "Z" and int(status[3]) == os.getsid(0):
                found.add(int(entry.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_ignore_ctrl_c_and_end_with_the_iterator(root: Path) -> None:
    before = children()
    batches = open_all(root, workers=2).batches.iterate(0, 1000)
    first: Prepared = next(batches)
    next(batches)  # of the other worker, which then is ready too
    workers = children() - before
    assert len(workers) >= 2
    for worker in workers:
        os.kill(worker, signal.SIGINT)
    found = [next(batches) for _ in range(8)]  # more than were prepared ahead
    assert all(len(one.batch) == 11 for one in found)
    assert len(first.batch) == 11
    batches.close()
    deadline = time.monotonic() + 20
    while len(children() - before) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children() - before) <= 1  # the server, which serves later runs


def test_the_run_keeps_its_own_random_state(root: Path) -> None:
    state = torch.get_rng_state()
    list(open_all(root).batches.iterate(0, 2))
    assert torch.equal(state, torch.get_rng_state())


def test_endless_sources_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"source 2 of data.sources has no length.*tars"):
        count_examples(iter(()), 2)  # type: ignore[arg-type]


def test_equal_captions_have_equal_numbers() -> None:
    ids = caption_ids(["A dog", " a  dog", "a cat", "a \udcff"])
    assert int(ids[0]) == int(ids[1])
    assert len(set(ids.tolist())) == 3
    assert bool((ids >= 0).all())
    assert caption_ids([]).shape == (0,)


def test_tokens_are_as_wide_as_the_longest_text() -> None:
    tokens, lengths = tokenize(TOKENIZER, ["a", "a dog and a cat", "word " * 60])
    assert tokens.shape == (3, 24)
    assert lengths.tolist()[2] == 24
    assert tokenize(TOKENIZER, ["a"])[0].shape == (1, 3)
    assert tokenize(TOKENIZER, [])[0].shape == (0, 1)


def test_the_fingerprint_is_that_of_all_sources(root: Path) -> None:
    before = open_all(root).batches.fingerprint
    assert before == open_all(root, workers=1).batches.fingerprint
    write_tar(root / "1.tar", pairs(7, 21))
    assert open_all(root).batches.fingerprint != before
