"""The embedded default: speed, size, and what it knows: `python -m benchmarks.mini --data DIR`.

DIR holds `emoji/`. Without it only speed and size are measured, on the bundled drawings.
--model is the model to measure, `mini` by default, and --against another one for the same run;
--markdown prints the tables of docs/mini.md, --page writes them into that page, and --measures
writes the file behind `ecliptic info mini`.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import ecliptic
from benchmarks import naming
from benchmarks.emoji import read_emoji, read_photos
from benchmarks.mini_tables import Measured, write_tables
from benchmarks.models import captions
from benchmarks.timing import machine, measure_in_turns, print_rates
from ecliptic.checkpoints import locate
from ecliptic.engine import MINI
from scripts.blocks import fill_block

DRAWINGS = Path(ecliptic.__file__).parent / "report" / "drawings"
COUNT = 256  # images or captions in one call
THREADS = 2


def measure_speed(clips: dict[str, ecliptic.Clip], repeats: int) -> dict[str, dict[str, float]]:
    """Images and captions a second of each model, in turns; prints them with their range."""
    files = sorted(DRAWINGS.glob("*.png"))
    paths = [files[n % len(files)] for n in range(COUNT)]
    pixels = {name: torch.stack([c.preprocess(p) for p in paths]) for name, c in clips.items()}
    texts = captions(COUNT)
    work: dict[str, tuple[str, dict[str, Callable[[], object]]]] = {
        "pixels": ("images", {n: partial(c.encode_image, pixels[n]) for n, c in clips.items()}),
        "png_files": ("images", {n: partial(c.encode_image, paths) for n, c in clips.items()}),
        "captions": ("captions", {n: partial(c.encode_text, texts) for n, c in clips.items()}),
    }
    found: dict[str, dict[str, float]] = {name: {} for name in clips}
    for bench, (unit, calls) in work.items():
        seconds = measure_in_turns(calls, repeats)
        medians = print_rates(f"mini, {bench}", seconds, COUNT, unit, next(iter(clips)))
        for name, rate in medians.items():
            found[name][f"{bench}_per_s"] = round(rate, 1)
    return found


def measure_size(source: str, clip: ecliptic.Clip) -> dict[str, float]:
    """Megabytes of the files of a model on this disk, and its parameters."""
    path = MINI if source == "mini" else locate(source).path
    names = ("model.safetensors", "ecliptic.json")  # a run has states beside them
    size = sum((path / n).stat().st_size for n in names) if path.is_dir() else path.stat().st_size
    return {"megabytes": round(size / 1e6, 2), "parameters": clip.card.parameters}


def measure_knowledge(clip: ecliptic.Clip, data: Path, photos: Path) -> naming.Shares:
    """Every measure of `benchmarks.naming`; that of photographs if their folder is there."""
    emoji = read_emoji(data)
    shares: naming.Shares = {}
    for measure in (
        naming.measure_design,
        naming.measure_concepts,
        naming.measure_small,
        naming.measure_phrases,
        naming.measure_keywords,
        naming.measure_groups,
    ):
        shares |= measure(clip, emoji)
    return shares | (naming.measure_photos(clip, read_photos(photos)) if photos.is_dir() else {})


def name_sources(sources: Sequence[str]) -> dict[str, str]:
    """A short name of each model, and where it is."""
    names = [Path(source).name for source in sources]
    if len(set(names)) < len(names):
        names = ["new", "old"]
    return dict(zip(names, sources, strict=True))


def print_shares(models: Sequence[Measured]) -> None:
    """One line for each measure, for people."""
    for key in models[0].shares:
        shares = [model.shares[key] for model in models]
        values = [f"{s.value:6.3f} ({s.low:.3f} to {s.high:.3f})" for s in shares]
        print(f"  {key:36} {shares[0].count:4} {'  '.join(values)}")


def write_line(models: Sequence[Measured]) -> str:
    """The JSON line: of each model its numbers, and of each share [value, low, high, count]."""
    line: dict[str, Any] = {"bench": "mini", "machine": machine(), "threads": THREADS}
    line["models"] = {
        model.name: {**model.numbers}
        | {
            key: [round(s.value, 4), round(s.low, 4), round(s.high, 4), s.count]
            for key, s in model.shares.items()
        }
        for model in models
    }
    return json.dumps(line)


def write_measures(model: Measured) -> str:
    """The JSON of one model that `ecliptic.engine.report_mini` reads."""
    named = {"images from pixels": "pixels", "PNG files": "png_files", "captions": "captions"}
    content = {
        "machine": machine(),
        "threads": THREADS,
        "speeds": {what: model.numbers[f"{key}_per_s"] for what, key in named.items()},
        "shares": {
            key: [round(s.value, 6), round(s.low, 6), round(s.high, 6), s.count]  # shown with 3
            for key, s in model.shares.items()
        },
    }
    return json.dumps(content, indent=0)


def main() -> None:
    """Print speed, size and knowledge of one or two models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--photos", type=Path, help="DIR/../fixtures/photos, if it is there")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--against")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--measures", type=Path, help="write them as JSON, for `ecliptic info`")
    args = parser.parse_args()
    sources = name_sources([args.model, *([args.against] if args.against else [])])
    clips = {name: ecliptic.load(source) for name, source in sources.items()}
    torch.set_num_threads(THREADS)
    speeds = measure_speed(clips, args.repeats)
    torch.set_num_threads(1)  # on a busy machine threads that wait for each other take far longer
    photos = args.photos or (args.data or Path()).parent / "fixtures" / "photos"
    models = [
        Measured(
            name,
            speeds[name] | measure_size(sources[name], clip),
            measure_knowledge(clip, args.data, photos) if args.data else {},
        )
        for name, clip in clips.items()
    ]
    print_shares(models)
    tables = write_tables(models, THREADS)
    if args.markdown:
        print(f"\n{tables}\n")
    if args.page:
        fill_block(args.page, "numbers", tables)
    if args.measures:
        args.measures.write_text(write_measures(models[0]) + "\n", encoding="utf-8")
    print(write_line(models))


if __name__ == "__main__":
    main()
