"""Choose a label for each drawing in a folder: python examples/sort_images.py [FOLDER [LABEL ...]].

Files that are not images are listed; the others are still sorted.
"""

import sys
from pathlib import Path

import ecliptic

folder, *labels = sys.argv[1:] or ["src/ecliptic/report/drawings"]
labels = labels or ["animal", "vehicle", "food", "weather", "building"]
paths = sorted(path for path in Path(folder).iterdir() if path.is_file())

clip = ecliptic.load()
encoded = clip.encode_image(paths, on_error="reject")
classes = clip.text_classifier(labels, templates="drawing")  # (L, E)
for place, vector in zip(encoded.kept, encoded.vectors, strict=True):
    print(f"{labels[int((classes @ vector).argmax())]:12} {paths[place].name}")
for rejected in encoded.rejected:
    print(f"skipped: {rejected.reason}", file=sys.stderr)
