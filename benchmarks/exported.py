"""Our exported towers in other programs' hands: onnxruntime, and OpenVINO where it is installed."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ecliptic.engine import Clip
from ecliptic.export import write_export

Encode = Callable[[Any], Tensor]
Arrays = Mapping[str, NDArray[Any]]


def load_onnxruntime(clip: Clip, side: str) -> Encode:
    """The file in onnxruntime, as its documentation runs it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with _exported(clip, side) as path:
        session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return _encoder(clip, side, lambda feed: session.run(None, dict(feed))[0])


def load_openvino(clip: Clip, side: str) -> Encode:
    """The file in OpenVINO, in float32 and for one call at a time, as many threads as torch."""
    import openvino as ov

    how = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    with _exported(clip, side) as path:
        compiled = ov.Core().compile_model(str(path), "CPU", how)
    return _encoder(clip, side, lambda feed: compiled(dict(feed))[0])


EXPORTED: Mapping[str, Callable[[Clip, str], Encode]] = {
    "onnxruntime": load_onnxruntime,
    "OpenVINO": load_openvino,
}


@contextmanager
def _exported(clip: Clip, side: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        write_export(clip, Path(folder) / "export")
        yield Path(folder) / "export" / f"{side}.onnx"


def _encoder(clip: Clip, side: str, run: Callable[[Arrays], NDArray[Any]]) -> Encode:
    def encode(given: Any) -> Tensor:
        if side == "text":
            batch = clip.tokenizer.batch(given)
            feed = {"tokens": batch.ids[:, : int(batch.lengths.max())]}
        else:
            feed = {"pixels": np.ascontiguousarray(given)}
        return F.normalize(torch.from_numpy(run(feed)), dim=-1)

    return encode
