"""Imports the reference implementations that tests and benchmarks compare with.

PyPI's torchvision does not import beside a CPU build of torch before its two missing operators
are declared. Warnings of the peers during import are ignored.
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
    return library  # its declarations live as long as this object


def _import_peer(name: str) -> ModuleType:
    _declare_torchvision_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return import_module(name)
        except ImportError as reason:
            pytest.skip(f"{name} is not installed: {reason}")


def compel() -> ModuleType:
    return _import_peer("compel")


def diffusers() -> ModuleType:
    return _import_peer("diffusers")


def open_clip() -> ModuleType:
    return _import_peer("open_clip")


def peft() -> ModuleType:
    return _import_peer("peft")


def timm() -> ModuleType:
    return _import_peer("timm")


def torchmetrics(part: str) -> ModuleType:
    """A module of its functions, such as `multimodal.clip_score`."""
    return _import_peer(f"torchmetrics.functional.{part}")


def torchvision() -> ModuleType:
    return _import_peer("torchvision")


def transformers() -> ModuleType:
    return _import_peer("transformers")
