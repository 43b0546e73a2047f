"""Harnesses: mutated weights, images, texts and stored files, and writers that are killed.

Each is the long form of a test of the fast suite, with other random numbers in every run.
"""

import os
import shutil
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

import ecliptic
from ecliptic.engine import load_vectors
from ecliptic.errors import EclipticError, ImageError, StorageError, TextError
from ecliptic.inputs import Tokenizer
from ecliptic.prompts import convert, lint_prompt, parse
from tests.diffusion.cache import test_damage as conditionings
from tests.engine import test_cache_damage as embeddings, test_vectors_damage as stored
from tests.engine.test_vectors import IDS, SUFFIXES, card, rows
from tests.fuzz.rounds import run_rounds
from tests.inputs.mutations import hostile_texts, mutated_images
from tests.storage.faults import damage_bytes, flip_bytes
from tests.storage.test_mutations import CASES, check_mutant

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore")]
AT_ONCE = 20  # mutants of one round
DIALECTS: Any = ("plain", "a1111", "comfyui", "compel")


def test_mutated_weights_are_read_or_refused(tmp_path: Path) -> None:
    whole = {name: make() for name, (make, _) in CASES.items()}
    path = tmp_path / "weights"

    def one(random: Random) -> None:
        name = random.choice(list(CASES))
        for mutant in islice(CASES[name][1](whole[name], random), AT_ONCE):
            check_mutant(path, mutant, name)

    run_rounds("weights", one)


def test_mutated_checkpoints_are_loaded_or_refused(tmp_path: Path) -> None:
    """The whole way of `load`, also through the layouts."""
    source = ecliptic.load()
    source.save(tmp_path / "mini.safetensors")
    whole = (tmp_path / "mini.safetensors").read_bytes()
    mutants = CASES["safetensors"][1]

    def one(random: Random) -> None:
        for mutant in islice(mutants(whole, random), 2):
            (tmp_path / "mutant.safetensors").write_bytes(mutant.data)
            try:
                ecliptic.load(tmp_path / "mutant.safetensors")
            except EclipticError:
                continue
            except BaseException as error:
                error.add_note(mutant.what)
                raise

    run_rounds("checkpoints", one)


@pytest.mark.parametrize("preprocess", ["reference", "robust"])
def test_mutated_images_are_encoded_or_refused(preprocess: Any) -> None:
    clip = ecliptic.load(preprocess=preprocess)

    def one(random: Random) -> None:
        for layout, data in islice(mutated_images(random.getrandbits(32)), AT_ONCE):
            try:
                pixels = clip.preprocess(data)
            except ImageError:
                continue
            except BaseException as error:
                error.add_note(f"a {layout} of {len(data)} bytes: {data[:64]!r}...")
                raise
            assert pixels.isfinite().all()

    run_rounds(f"images-{preprocess}", one)


def test_hostile_texts_are_tokenized_or_refused() -> None:
    tokenizer = Tokenizer()

    def one(random: Random) -> None:
        for text in islice(hostile_texts(random.getrandbits(32), surrogates=True), AT_ONCE):
            try:
                batch = tokenizer.batch([text], "truncate")
            except TextError:
                continue
            assert len(batch.ids[0]) <= tokenizer.spec.context, text[:200]

    run_rounds("texts", one)


def test_hostile_prompts_are_parsed_or_refused() -> None:
    tokenizer = Tokenizer()

    def one(random: Random) -> None:
        for text in islice(hostile_texts(random.getrandbits(32)), 4):
            for dialect in DIALECTS:
                lint_prompt(text, tokenizer, dialect)
                try:
                    prompt = parse(text, dialect)
                except TextError:
                    continue
                str(prompt)
                prompt.readings(20)
                for other in DIALECTS:
                    try:
                        convert(prompt, other)
                    except TextError:
                        continue

    run_rounds("prompts", one)


def test_damaged_vectors_give_the_same_rows_or_an_error(tmp_path: Path) -> None:
    folders = {}
    for suffix in SUFFIXES:
        folder = tmp_path / suffix[1:]
        folder.mkdir()
        folders[suffix] = stored.files(folder, suffix)

    def one(random: Random) -> None:
        path, written = folders[random.choice(SUFFIXES)]
        file, seed = random.choice(written), random.getrandbits(32)
        data = file.read_bytes()
        for what, changed in [*flip_bytes(data, seed, AT_ONCE), *damage_bytes(data, seed, AT_ONCE)]:
            file.write_bytes(changed)
            try:
                found = load_vectors(path)
            except StorageError:
                continue
            finally:
                file.write_bytes(data)
            assert np.array_equal(found.vectors, rows().numpy()), (file.name, what)
            assert (found.ids, found.space) == (tuple(IDS), card().space), (file.name, what)

    run_rounds("vectors", one)


def test_damaged_caches_give_the_same_entries_or_an_error(tmp_path: Path) -> None:
    whole = conditionings.filled(tmp_path / "whole")
    names = [path.name for path in sorted(whole.iterdir()) if path.is_file()]

    def one(random: Random) -> None:
        name, seed = random.choice(names), random.getrandbits(32)
        data = (whole / name).read_bytes()
        for what, changed in conditionings.used(data, seed, 3, 2):
            folder = tmp_path / "damaged"
            shutil.copytree(whole, folder)
            (folder / name).write_bytes(changed)
            if random.random() < 0.5:
                state = (whole / name).stat()
                os.utime(folder / name, ns=(state.st_atime_ns, state.st_mtime_ns))
            conditionings.check(folder, f"{name}: {what}")
            shutil.rmtree(folder)

    run_rounds("conditionings", one)


def test_damaged_embedding_caches_heal(tmp_path: Path) -> None:
    path = embeddings.filled(tmp_path / "cache")
    whole = path.read_bytes()

    def one(random: Random) -> None:
        seed = random.getrandbits(32)
        for what, changed in [*flip_bytes(whole, seed, 2), *damage_bytes(whole, seed, 2)]:
            shutil.rmtree(path.parent)
            path.parent.mkdir()
            path.write_bytes(changed)
            embeddings.check(path.parent, what)

    run_rounds("embeddings", one)


@pytest.mark.parametrize("store", [conditionings, embeddings], ids=["conditionings", "embeddings"])
def test_a1_killed_writers_lose_nothing_they_acknowledged(tmp_path: Path, store: Any) -> None:
    def one(random: Random) -> None:
        folder = tmp_path / f"{random.getrandbits(64):x}"
        folder.mkdir()
        store.check_killed_writers(folder, rounds=3, seed=random.getrandbits(32))
        shutil.rmtree(folder)

    run_rounds(f"killed {store.__name__}", one, seconds=120)
