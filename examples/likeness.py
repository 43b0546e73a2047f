"""Which drawings in a folder look alike: python examples/likeness.py FOLDER.

Vectors are encoded once and kept in a file; a second run only reads them.
"""

import sys
from pathlib import Path

import torch

import ecliptic
from ecliptic.scoring import cosine

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "images")
stored = Path("likeness.npy")
images = sorted(folder.glob("*.png"))

clip = ecliptic.load()
if not stored.exists():
    names = [path.name for path in images]
    ecliptic.save_vectors(stored, clip.encode_image(images), clip.card, ids=names)
found = ecliptic.load_vectors(stored, clip.card)  # refused if another model made them

rows = torch.from_numpy(found.vectors)
alike = cosine(rows, rows).fill_diagonal_(-1)  # (N, N); not with itself
for name, row in zip(found.ids or (), alike, strict=True):
    print(f"{name}  ~  {(found.ids or ())[int(row.argmax())]}  {float(row.max()):.2f}")
