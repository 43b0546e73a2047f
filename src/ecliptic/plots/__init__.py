"""Pictures of vectors and scores, drawn with Pillow alone; knows no model and imports no torch."""

from ecliptic.plots.colours import SEQUENTIAL, colour_at, ink_on
from ecliptic.plots.matrix import MatrixStyle, similarity_matrix

__all__ = ["SEQUENTIAL", "MatrixStyle", "colour_at", "ink_on", "similarity_matrix"]
