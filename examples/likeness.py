"""Find the most similar other drawing for each in a folder: python examples/likeness.py [FOLDER].

The first run stores the vectors in the folder likeness.cache, so later runs encode only new images.
"""

import sys
from pathlib import Path

import ecliptic
from ecliptic.scoring import cosine

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "src/ecliptic/report/drawings")
images = sorted(folder.glob("*.png"))
if len(images) < 2:
    sys.exit(f"{folder} has {len(images)} .png files; name a folder with at least two.")

clip = ecliptic.load(cache="likeness.cache")  # the key is the content of an image
vectors = clip.encode_image(images)  # (N, E)
alike = cosine(vectors, vectors).fill_diagonal_(-1)  # (N, N); no image matches itself
for image, row in zip(images, alike, strict=True):
    print(f"{image.name}  ~  {images[int(row.argmax())].name}  {float(row.max()):.2f}")
