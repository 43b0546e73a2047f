"""The two kinds of files: ONNX, and programs of `torch.export`; how each is written and run.

Both exporters of torch trace the same graph. Places in our source files, which the exporters note
for debugging, are removed: they would tell the folders of one machine.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ecliptic.checks import check_choice
from ecliptic.errors import MissingExtraError
from ecliptic.export.graphs import Graph

ExportTarget: TypeAlias = Literal["onnx", "torch"]
Encode = Callable[[Tensor], Tensor]  # inputs -> vectors

OPSET = 18  # of ONNX: the first of torch's present exporter, read by onnxruntime 1.14 and later
OUTPUT = "vectors"
NOTE = "ecliptic"  # key of the JSON inside each file
_ERRORS_ONLY = 3  # onnxruntime's severity of logs


@dataclass(frozen=True)
class Program:
    """A kind of file."""

    suffix: str
    packages: tuple[str, ...]  # that write and check it, beside torch
    write: Callable[[Graph, Path, str], None]  # the last is JSON, stored inside the file
    start: Callable[[Path, str], Encode]  # the file, the name of the input
    checker: str  # package that runs it


def require_packages(to: ExportTarget) -> None:
    """Check that what an export `to` this kind of file needs is installed.

    Raises:
        ConfigError: no such kind.
        MissingExtraError: a package is not installed.
    """
    missing = [name for name in find_program(to).packages if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"an export to {to} needs {', '.join(missing)}; `pip install 'ecliptic[export]'`."
        )


def find_program(to: str) -> Program:
    """The row called `to`; ConfigError if there is none."""
    check_choice("to", to, PROGRAMS)
    return PROGRAMS[to]


def checker_of(program: Program) -> str:
    """Name and version of the package that ran the files."""
    return f"{program.checker} {version(program.checker).partition('+')[0]}"


def _write_onnx(graph: Graph, path: Path, note: str) -> None:
    with _quiet():
        program = torch.onnx.export(
            graph.module,
            (graph.example,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(graph.dynamic,),
            input_names=[graph.input],
            output_names=[OUTPUT],
            verbose=False,
        )
        assert program is not None  # only the old exporter returns None
        for node in program.model.graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
        program.model.metadata_props[NOTE] = note
        program.save(path)


def _start_onnx(path: Path, name: str) -> Encode:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run([OUTPUT], {name: x.numpy()})[0])


def _write_torch(graph: Graph, path: Path, note: str) -> None:
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            graph.module, (graph.example,), dynamic_shapes=(graph.dynamic,), strict=False
        )
        for module in program.graph_module.modules():
            if isinstance(module, torch.fx.GraphModule):
                for node in module.graph.nodes:
                    node.meta.pop("stack_trace", None)
        torch.export.save(program, path, extra_files={NOTE: note})


def _start_torch(path: Path, _name: str) -> Encode:
    with _quiet():
        module = torch.export.load(path).module()
    run: Encode = torch.no_grad()(module)
    return run


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings and logs of the exporters, which no user can act on."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


PROGRAMS: Mapping[str, Program] = MappingProxyType(
    {
        "onnx": Program(
            ".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _start_onnx, "onnxruntime"
        ),
        "torch": Program(".pt2", (), _write_torch, _start_torch, "torch"),
    }
)
