"""Choose a label for each image in a folder: python examples/sort_images.py [FOLDER [LABEL ...]].

Without labels, the names of the files are the labels, so you see how often the model is right.
Files that are not images are listed; the others are still sorted.
"""

import sys
from pathlib import Path

import ecliptic

folder, *labels = sys.argv[1:] or ["src/ecliptic/report/drawings"]
paths = sorted(path for path in Path(folder).glob("*") if path.is_file())
if not paths:
    sys.exit(f"{folder} has no files; name a folder with images.")

clip = ecliptic.load()
encoded = clip.encode_image(paths, on_error="reject")
labels = labels or [paths[place].stem.replace("-", " ") for place in encoded.kept]
if not labels:
    sys.exit(f"{folder} has no images; name a folder that has some.")
classes = clip.text_classifier(labels, templates="drawing")  # (L, E)
for place, vector in zip(encoded.kept, encoded.vectors, strict=True):
    print(f"{labels[int((classes @ vector).argmax())]:12} {paths[place].name}")
for rejected in encoded.rejected:
    print(f"skipped: {rejected.reason}", file=sys.stderr)
