"""The drawing model: what a judge sees in its drawings, and how long they take.

`python -m benchmarks.drawing --judge FILE [--page docs/guidance.md]`: the judge is that of
`benchmarks.drawing_judge`, which had no part in the model. For each of the 200 concepts of
recipes/drawing.toml it says at which place among them the right name is; the same noise is drawn
with CLIP guidance of 0, 1, 2 and 4, and Page's test says whether the judge is surer with more.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch
from scipy.stats import page_trend_test

from benchmarks.drawing_judge import Judge, read_judge
from benchmarks.timing import machine
from ecliptic.drawing import DrawingSettings, DrawSettings, draw_tensor, load_drawing
from ecliptic.settings import load_toml
from scripts.blocks import fill_block

RECIPE = Path(__file__).parents[1] / "recipes" / "drawing.toml"
JUDGE = Path(__file__).parents[1] / "tests" / "drawing" / "judge.safetensors"
SCALES = (0.0, 1.0, 2.0, 4.0)
FIRST = 10  # places that count
SHEET, REPEATS = 8, 3


def judge_scale(
    judge: Judge, names: tuple[str, ...], scale: float, each: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of the right names and the judge's log-probabilities of them: (names, each)."""
    model = load_drawing()
    ranks, sure = [], []
    for name in names:
        settings = DrawSettings(clip_guidance=scale, seed=seed)
        drawings = draw_tensor(model, name, each, settings)
        ranks.append(judge.ranks(drawings, [name] * each, names))
        sure.append(judge.log_probability(drawings, [name] * each, names))
    return torch.stack(ranks), torch.stack(sure)


def time_sheet() -> list[float]:
    """Seconds of a sheet of 8 drawings with the default settings, without the loading."""
    model = load_drawing()
    taken = []
    for seed in range(REPEATS):
        started = time.perf_counter()
        draw_tensor(model, "a cat", SHEET, DrawSettings(seed=seed))
        taken.append(time.perf_counter() - started)
    return taken


def write_table(rows: list[tuple[float, float, float, float]]) -> str:
    """The table of docs/guidance.md."""
    head = "| CLIP guidance | right name first | in the first 10 of 200 | log-probability |\n"
    lines = [f"| {a:g} | {b:.3f} | {c:.3f} | {d:.2f} |\n" for a, b, c, d in rows]
    return head + "| --- | --- | --- | --- |\n" + "".join(lines)


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--judge", type=Path, default=JUDGE)
    parser.add_argument("--each", type=int, default=1, help="drawings of a concept and scale")
    parser.add_argument("--seed", type=int, default=1000, help="of the noise")
    parser.add_argument("--page", type=Path, help="page whose table is filled")
    given = parser.parse_args()
    judge, names = read_judge(given.judge), load_toml(DrawingSettings, RECIPE).concepts
    rows, sure = [], []
    for scale in SCALES:
        ranks, found = judge_scale(judge, names, scale, given.each, given.seed)
        shares = [float((ranks <= n).float().mean()) for n in (1, FIRST)]
        rows.append((scale, *shares, float(found.mean())))
        sure.append(found.flatten())
        print(f"CLIP guidance {scale:g}: first {shares[0]:.3f}, in the first 10 {shares[1]:.3f}")
    trend = page_trend_test(torch.stack(sure, dim=1).numpy())
    seconds = time_sheet()
    print(f"Page's test: p = {trend.pvalue:.2g}; a sheet of {SHEET}: {median(seconds):.1f} s")
    if given.page:
        fill_block(given.page, "measures", write_table(rows))
    report = {
        "bench": "drawing",
        "machine": machine(),
        "concepts": len(names),
        "drawings": len(names) * given.each,
        "first_10": {f"{row[0]:g}": round(row[2], 3) for row in rows},
        "page_p": float(trend.pvalue),
        "sheet_s": round(median(seconds), 2),
        "sheet_s_range": [round(min(seconds), 2), round(max(seconds), 2)],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
