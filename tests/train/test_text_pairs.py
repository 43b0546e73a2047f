"""Pairs of texts train the text tower beside the images, the same whoever makes or shares them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ecliptic.errors import StorageError
from ecliptic.inputs import Tokenizer
from ecliptic.train import (
    DataSettings,
    EvaluateSettings,
    TextPairsSettings,
    WordNetConfig,
    resume,
    train,
)
from ecliptic.train.batch import TextPairs
from ecliptic.train.data import open_data
from ecliptic.train.data.batches import Batches
from ecliptic.train.settings import DistillationConfig, FolderConfig, InfoNCEConfig, SigLIPConfig
from ecliptic.train.stepping import Stepper

from .runs import SPEC, assert_same_state, read_lines, tiny_run, write_folder
from .synsets import write_synsets
from .trainees import SETTINGS, gradients_of, largest_error, make_batch, make_stepper

TEXTS = TextPairsSettings(
    sources=(
        WordNetConfig(Path("synsets.tsv"), weight=0.7, kinds=("noun.animal",)),
        WordNetConfig(Path("synsets.tsv"), weight=0.3),
    ),
    batch=10,
    weight=0.25,
)
WITH_TEXTS = replace(SETTINGS, data=replace(SETTINGS.data, texts=TEXTS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_folder(tmp_path_factory.mktemp("pairs") / "data")
    write_synsets(root / "synsets.tsv")
    return root


def make_data(root: Path, texts: TextPairsSettings = TEXTS) -> DataSettings:
    return DataSettings(root=root, sources=(FolderConfig(Path()),), batch=8, texts=texts)


def open_batches(root: Path, rank: int = 0, size: int = 1, *, seed: int = 0) -> Batches:
    settings = replace(tiny_run(root, seed=seed), data=make_data(root))
    return open_data(settings, settings.pixels, Tokenizer(SPEC), rank, size).batches


def pairs_of(batches: Batches, start: int = 0, stop: int = 6) -> list[TextPairs]:
    found = [prepared.batch.pairs for prepared in batches.iterate(start, stop)]
    assert None not in found
    return [pairs for pairs in found if pairs is not None]


def words_of(pairs: TextPairs) -> list[tuple[int, ...]]:
    """The ids of each text without its padding."""
    rows = zip(pairs.tokens.tolist(), pairs.lengths.tolist(), strict=True)
    return [tuple(row[:length]) for row, length in rows]


# --- what a step gets ---------------------------------------------------------------------------


def test_pairs_follow_from_the_settings_and_the_step(data: Path) -> None:
    found = pairs_of(open_batches(data))
    again = pairs_of(open_batches(data), 3, 6)
    assert [len(pairs) for pairs in found] == [10] * 6
    assert list(map(words_of, found[3:])) == list(map(words_of, again))
    assert len({tuple(words_of(pairs)) for pairs in found}) == 6
    other = pairs_of(open_batches(data, seed=1))
    assert words_of(other[0]) != words_of(found[0])


def test_shares_of_processes_join_to_the_whole_and_workers_change_nothing(data: Path) -> None:
    whole = pairs_of(open_batches(data))
    shares = [pairs_of(open_batches(data, rank, 4)) for rank in range(4)]
    assert [len(share[0]) for share in shares] == [2, 3, 2, 3]
    batches = open_batches(data)
    worked = pairs_of(Batches(batches.maker, workers=1))
    for step, pairs in enumerate(whole):
        assert [text for share in shares for text in words_of(share[step])] == words_of(pairs)
        joined = torch.cat([share[step].captions for share in shares])
        assert torch.equal(joined, pairs.captions)
        assert torch.equal(worked[step].tokens, pairs.tokens)
        assert torch.equal(worked[step].captions, pairs.captions)


def test_equal_second_texts_have_equal_numbers(data: Path) -> None:
    seen = 0
    for pairs in pairs_of(open_batches(data)):
        texts = words_of(pairs)[1::2]
        for one in range(10):
            for other in range(10):
                same = bool(pairs.captions[one] == pairs.captions[other])
                assert same == (texts[one] == texts[other])
                seen += same and one != other
    assert seen


def test_the_fingerprint_covers_the_table(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", 8)
    write_synsets(root / "synsets.tsv")
    before = open_batches(root).fingerprint
    assert open_batches(root).fingerprint == before
    write_synsets(root / "synsets.tsv", "n99\tnoun.food\tbread\t\t\t\ta baked food")
    assert open_batches(root).fingerprint != before


@pytest.mark.parametrize(("batch", "size"), [(20, 7), (20, 19), (3, 1), (3, 2)])
def test_parts_of_a_batch_share_its_pairs(batch: int, size: int) -> None:
    whole = make_batch(batch, negatives=5, texts=9)
    assert whole.pairs is not None
    parts = [whole.part(i, i + size) for i in range(0, batch, size)]
    pairs = [part.pairs for part in parts if part.pairs is not None]
    assert len(pairs) == len(parts)
    assert sum(map(len, pairs)) == 9
    assert torch.equal(torch.cat([p.tokens for p in pairs]), whole.pairs.tokens)
    assert torch.equal(torch.cat([p.lengths for p in pairs]), whole.pairs.lengths)
    assert torch.equal(torch.cat([p.captions for p in pairs]), whole.pairs.captions)
    assert all(len(p.tokens) == 2 * len(p) for p in pairs)


# --- the loss -----------------------------------------------------------------------------------


def plain_text_loss(stepper: Stepper, pairs: TextPairs) -> Tensor:
    """Symmetric cross entropy of first and second texts, by torch alone."""
    model = stepper.trainee.model
    vectors = F.normalize(model.encode_text(pairs.tokens), dim=-1)
    z = model.logit_scale.detach().exp() * vectors[0::2] @ vectors[1::2].T
    equal = pairs.captions[:, None] == pairs.captions
    z = z.masked_fill(equal.fill_diagonal_(False), float("-inf"))
    right = torch.arange(len(pairs))
    return (F.cross_entropy(z, right) + F.cross_entropy(z.T, right)) / 2


@pytest.mark.parametrize(
    "loss", [InfoNCEConfig(), InfoNCEConfig(mask_duplicates=False), SigLIPConfig(bias=-2.0)]
)
def test_the_loss_is_that_of_the_images_and_plain_cross_entropy_of_the_pairs(
    loss: InfoNCEConfig | SigLIPConfig,
) -> None:
    """In float64 up to the vectors, which leave the towers as float32."""
    batch = make_batch(negatives=3, texts=9)
    batch = replace(batch, pixels=batch.pixels.double())
    assert batch.pairs is not None
    steppers = [make_stepper(replace(s, loss=loss)) for s in (WITH_TEXTS, SETTINGS)]
    for stepper in steppers:
        stepper.trainee.double()
    found, images = (
        stepper.accumulate(one)
        for stepper, one in zip(steppers, (batch, replace(batch, pairs=None)), strict=True)
    )
    texts = plain_text_loss(steppers[1], batch.pairs)
    (0.25 * texts).backward()
    torch.testing.assert_close(steppers[0].parts["text_loss"], texts.detach().float())
    torch.testing.assert_close(found, images + 0.25 * texts.detach().float())
    gradients, wanted = (gradients_of(stepper.trainee) for stepper in steppers)
    assert largest_error(gradients, wanted) < 1e-5


def test_the_temperature_learns_from_the_images_alone() -> None:
    scales = []
    for settings, texts in ((WITH_TEXTS, 9), (SETTINGS, 0)):
        stepper = make_stepper(settings)
        stepper.accumulate(replace(make_batch(texts=9), pairs=make_batch(texts=texts).pairs))
        scales.append(gradients_of(stepper.trainee)["model.logit_scale"])
    torch.testing.assert_close(*scales, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("loss", "micro"),
    [(InfoNCEConfig(), 7), (InfoNCEConfig(), 19), (SigLIPConfig(bias=-2.0), 7)],
)
def test_parts_have_the_gradients_of_the_whole(
    loss: InfoNCEConfig | SigLIPConfig, micro: int
) -> None:
    found = []
    for size in (0, micro):
        stepper = make_stepper(replace(WITH_TEXTS, loss=loss, micro=size))
        value = stepper.accumulate(make_batch(negatives=5, texts=9))
        found.append((value, stepper.parts["text_loss"], gradients_of(stepper.trainee)))
    (loss_of, text_loss, gradients), (wanted, wanted_text, wanted_gradients) = found[1], found[0]
    torch.testing.assert_close(loss_of, wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(text_loss, wanted_text, rtol=1e-6, atol=0)
    assert largest_error(gradients, wanted_gradients) < 1e-5


def test_a_step_tells_the_loss_of_the_pairs() -> None:
    stepper = make_stepper(WITH_TEXTS)
    with_pairs = stepper.step(make_batch(texts=9), 0)
    assert 1 < with_pairs.parts["text_loss"] < 9  # ln 9 is chance of vectors that say nothing
    weighted = with_pairs.parts["pair_loss"] + 0.25 * with_pairs.parts["text_loss"]
    assert with_pairs.loss == pytest.approx(weighted)
    assert make_stepper().step(make_batch(), 0).parts == {}


# --- whole runs ---------------------------------------------------------------------------------


def test_a_run_goes_on_bit_for_bit_and_records_the_loss_of_the_pairs(
    data: Path, tmp_path: Path
) -> None:
    settings = replace(tiny_run(data, steps=8), data=replace(make_data(data), held_out=0.25))
    train(settings, tmp_path / "whole")
    steps = iter(range(1, 100))
    train(settings, tmp_path / "run", stop=lambda: next(steps) == 4)
    assert resume(tmp_path / "run").steps == 8
    assert_same_state(tmp_path / "whole", tmp_path / "run", 8)
    lines = read_lines(tmp_path / "whole")
    assert read_lines(tmp_path / "run") == lines
    logged = [line for line in lines if "loss" in line]
    assert all(0 < line["text_loss"] < 9 for line in logged)
    assert all(line["loss"] > 0.25 * line["text_loss"] for line in logged)
    assert "text_loss" in (tmp_path / "whole" / "curves.svg").read_text()


def test_a_run_without_pairs_has_no_such_loss(data: Path, tmp_path: Path) -> None:
    plain = replace(tiny_run(data, steps=3), data=make_data(data, TextPairsSettings()))
    plain = replace(plain, evaluate=EvaluateSettings())
    train(plain, tmp_path / "run")
    assert not any("text_loss" in line for line in read_lines(tmp_path / "run"))
    assert "text_loss" not in (tmp_path / "run" / "curves.svg").read_text()


def test_another_table_is_not_the_data_of_the_run(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", 12)
    write_synsets(root / "synsets.tsv")
    settings = replace(tiny_run(root, steps=3), data=make_data(root))
    steps = iter(range(1, 9))
    train(settings, tmp_path / "run", stop=lambda: next(steps) == 1)
    write_synsets(root / "synsets.tsv", "n99\tnoun.food\tbread\t\t\t\ta baked food")
    with pytest.raises(StorageError, match="training data is not that of the run"):
        resume(tmp_path / "run")


def test_pairs_go_with_a_distillation() -> None:
    settings = replace(WITH_TEXTS, loss=DistillationConfig(teacher="x", weight=0.6))

    def teach(batch: object) -> tuple[Tensor, Tensor, Tensor]:
        vectors = F.normalize(torch.eye(20, 9) + 0.1, dim=-1)
        return vectors, vectors.flip(0), torch.tensor(2.0)

    with_pairs, without = (make_stepper(s, teach=teach) for s in (settings, settings))
    batch = make_batch(texts=9)
    found = with_pairs.accumulate(batch)
    alone = without.accumulate(replace(batch, pairs=None))
    torch.testing.assert_close(found, alone + 0.25 * with_pairs.parts["text_loss"])
