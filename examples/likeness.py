"""Find the most similar other drawing for each in a folder: python examples/likeness.py [FOLDER].

The first run stores the vectors in likeness.npy; later runs read that file, so delete it before
you pass another folder.
"""

import sys
from pathlib import Path

import torch

import ecliptic
from ecliptic.scoring import cosine

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "src/ecliptic/report/drawings")
stored = Path("likeness.npy")
images = sorted(folder.glob("*.png"))

clip = ecliptic.load()
if not stored.exists():
    names = [path.name for path in images]
    ecliptic.save_vectors(stored, clip.encode_image(images), clip.card, ids=names)
found = ecliptic.load_vectors(stored, clip.card)  # an error if they are of another model

rows = torch.from_numpy(found.vectors)
alike = cosine(rows, rows).fill_diagonal_(-1)  # (N, N); no image matches itself
for name, row in zip(found.ids or (), alike, strict=True):
    print(f"{name}  ~  {(found.ids or ())[int(row.argmax())]}  {float(row.max()):.2f}")
