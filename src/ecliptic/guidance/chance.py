"""Random numbers that are a function of whole numbers, such as a seed and a step."""

import hashlib

import torch


def generator_of(*numbers: int) -> torch.Generator:
    """A generator of torch on the CPU.

    Its Mersenne twister takes the lowest 32 bits of a seed alone, so numbers cannot be put side by
    side in one of 64 bits; they are hashed.
    """
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))
