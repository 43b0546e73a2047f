"""The old names: `compat.clip` for openai/CLIP's package, `compat.open_clip` for open_clip's.

Existing scripts change one import line. There is no second model here: the objects are facades
over `ecliptic.model.TwoTowers`, which they hold as `.towers`.
"""
