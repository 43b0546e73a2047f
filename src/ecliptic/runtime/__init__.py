"""Exact rewrites of the towers for inference."""

from ecliptic.runtime.towers import encode_image, encode_text

__all__ = ["encode_image", "encode_text"]
