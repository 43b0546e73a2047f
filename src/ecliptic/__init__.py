"""ecliptic: one plane on which pictures and words meet."""

__version__ = "0.1.0"
