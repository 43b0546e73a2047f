"""Whatever is read gives a result or a typed error: a short run of the generators."""

import subprocess
import sys
from contextlib import suppress
from itertools import islice

from ecliptic.errors import ImageError, TextError
from ecliptic.inputs import ImageLimits, ImageSpec, Preprocess, Tokenizer, ledger, lint
from ecliptic.prompts import lint_prompt, parse
from ecliptic.prompts.dialects import DIALECTS
from tests.inputs.mutations import LAYOUTS, hostile_texts, mutated_images, seed_images


def test_generators_give_the_same_for_a_seed() -> None:
    assert list(islice(hostile_texts(1), 20)) == list(islice(hostile_texts(1), 20))
    assert list(islice(mutated_images(1), 20)) == list(islice(mutated_images(1), 20))
    assert {name.split()[0] for name in seed_images(0)} <= set(LAYOUTS)


def test_b12_hostile_texts_give_tokens_or_a_text_error() -> None:
    tokenizer = Tokenizer()
    for text in islice(hostile_texts(0, surrogates=True), 60):
        with suppress(TextError):
            ids = tokenizer.encode(text)
            assert tokenizer.batch([text], "truncate").ids[0, 1:].tolist()[:75] == [
                *ids[:75],
                *[tokenizer.spec.end_of_text] * (len(ids) < 75),
                *[tokenizer.spec.pad] * (74 - len(ids)),
            ]
        if len(text) < 500:
            for read in (ledger, lint, *(_parse_and_lint(dialect) for dialect in DIALECTS)):
                with suppress(TextError):
                    read(text, tokenizer)


def _parse_and_lint(dialect):  # type: ignore[no-untyped-def]
    def read(text: str, tokenizer: Tokenizer) -> None:
        lint_prompt(text, tokenizer, dialect)
        parse(text, dialect).print()

    return read


def test_b3_mutated_images_give_pixels_or_an_image_error() -> None:
    prepare = Preprocess(ImageSpec(), "robust", icc="srgb", limits=ImageLimits(pixels=100_000))
    for _, data in islice(mutated_images(0), 300):
        with suppress(ImageError):
            assert prepare(data).shape == (3, 224, 224)


def test_b3_damaged_tiffs_write_nothing_to_stderr() -> None:
    code = (
        "import random\n"
        "from contextlib import suppress\n"
        "from ecliptic.errors import ImageError\n"
        "from ecliptic.inputs import open_image\n"
        "from tests.inputs.mutations import flip, seed_images\n"
        "source = random.Random(0)\n"
        "for name, data in seed_images(0).items():\n"
        "    for _ in range(100 * name.startswith('TIFF ')):\n"
        "        with suppress(ImageError):\n"
        "            open_image(flip(data, source))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
