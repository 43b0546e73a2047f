"""Exact rewrites of the towers for inference."""

from ecliptic.runtime.towers import encode_image, encode_text, image_sequence, text_outputs

__all__ = ["encode_image", "encode_text", "image_sequence", "text_outputs"]
