"""The reference implementations that tests and benchmarks compare with, imported so that they work.

PyPI's torchvision does not import beside a CPU build of torch before its two missing operators
are declared. Warnings the peers raise while being imported are theirs, not ours.
"""

import warnings
from functools import cache
from importlib import import_module
from types import ModuleType

import pytest
import torch

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def _declare_torchvision_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _NMS)
    return library  # its declarations live as long as it does


def _peer(name: str) -> ModuleType:
    _declare_torchvision_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(name)
        except ImportError as reason:
            pytest.skip(f"{name} is not installed: {reason}")


def compel() -> ModuleType:
    return _peer("compel")


def diffusers() -> ModuleType:
    return _peer("diffusers")


def open_clip() -> ModuleType:
    return _peer("open_clip")


def peft() -> ModuleType:
    return _peer("peft")


def torchvision() -> ModuleType:
    return _peer("torchvision")


def transformers() -> ModuleType:
    return _peer("transformers")
