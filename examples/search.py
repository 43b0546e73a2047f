"""Find the drawings in a folder that fit a text: python examples/search.py [FOLDER [TEXT ...]]."""

import sys
from pathlib import Path

import ecliptic

folder, *texts = sys.argv[1:] or ["src/ecliptic/report/drawings"]
texts = texts or ["a pet", "a mountain that erupts", "a boat with a sail"]
images = sorted(Path(folder).glob("*.png"))
if not images:
    sys.exit(f"{folder} has no .png files; name a folder that has some.")

clip = ecliptic.load()
cosines = clip.similarity(texts, images)  # (T, N)
for text, row in zip(texts, cosines, strict=True):
    best = row.topk(min(3, len(images)))
    found = ", ".join(
        f"{images[place].name} {value:.2f}"
        for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )
    print(f"{text}: {found}")
