"""`compat.clip` replaces openai/CLIP's package, `compat.open_clip` replaces open_clip.

An existing script changes one import line. There is no second model here: the objects are facades
over `ecliptic.model.TwoTowers`, which they hold as `.towers`.
"""
