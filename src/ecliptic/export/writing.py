"""`write_export` writes the towers of a model as files for other programs, each checked.

export.json               the model, its space, calibration and files; written last
image.onnx, text.onnx     a tower in fp32; `.pt2` for torch, `.fp16.onnx` in fp16
image.json, text.json     how to make the input of these files
*.onnx.data               the weights of a file over 2 GB, beside it
"""

import copy
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ecliptic.checks import check_choice
from ecliptic.engine import Clip
from ecliptic.errors import ConfigError, EclipticError, ExportError, StorageError
from ecliptic.export.agreement import (
    BOUNDS,
    Agreement,
    check_agreement,
    compare,
    image_batches,
    token_batches,
)
from ecliptic.export.descriptions import describe_image, describe_model, describe_text
from ecliptic.export.graphs import graph_of
from ecliptic.export.programs import (
    OPSET,
    PROGRAMS,
    ExportTarget,
    Program,
    checker_of,
    find_program,
    require_packages,
)
from ecliptic.runtime import Runtime
from ecliptic.storage import check_path, fill_folder, hash_file, replace_file, text_writer

ExportPrecision: TypeAlias = Literal["fp32", "fp16"]

ABOUT = "export.json"
TOWERS = ("image", "text")
_HALF = {"fp32": "", "fp16": ".fp16"}  # precision -> what its files have before the suffix


@dataclass(frozen=True)
class ExportedFile:
    """One tower in one precision."""

    file: str
    tower: str  # "image" or "text"
    precision: str  # inside; inputs and vectors are float32, tokens int64
    bytes: int  # with the weights beside it
    sha256: str
    agreement: Agreement


@dataclass(frozen=True)
class Export:
    """What was written, and how near it is to ours."""

    folder: Path
    to: ExportTarget
    opset: int | None  # of ONNX
    checker: str  # package and version that ran the files
    files: tuple[ExportedFile, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def write_export(
    clip: Clip,
    folder: Path | str,
    to: ExportTarget = "onnx",
    precisions: Iterable[ExportPrecision] = ("fp32",),
    *,
    overwrite: bool = False,
) -> Export:
    """Write each tower of a model to a file for programs without ecliptic, and check it.

    Every file is opened again and compared with the runtime of `clip` in fp32, on pictures and
    texts in several batches and lengths. If one differs too much, nothing is left: fp32 by more
    than 1e-4 of the largest value, fp16 by a cosine under 0.9999.

    Args:
        clip: of any device and precision; its weights are exported as they are now.
        folder: to make.
        to: "onnx", or "torch" for programs of `torch.export`.
        precisions: "fp32", "fp16" or both; a file each. Inputs and vectors are the same for both.
        overwrite: replace the files of an older export in an existing folder.

    Raises:
        ConfigError: no such kind of file or precision.
        MissingExtraError: the packages of the extra `export` are not installed.
        ExportError: a tower cannot be exported, or its file gives other numbers.
        NumericalError: the model itself gives NaN or infinity.
        StorageError: the folder exists, or cannot be written.
    """
    program, wanted, folder = find_program(to), _read_precisions(precisions), Path(folder)
    check_export(folder, to, overwrite=overwrite)
    runtime = _copy_runtime(clip)
    made: list[Export] = []

    def write(draft: Path) -> None:
        files = tuple(_write_towers(clip, runtime, program, wanted, draft))
        opset = OPSET if to == "onnx" else None
        export = Export(folder, to, opset, checker_of(program), files, tuple(_notes(clip, wanted)))
        _write_json(draft, clip, export)
        made.append(export)

    fill_folder(folder, write, last=ABOUT, stale=_all_names())
    return made[0]


def check_export(folder: Path, to: ExportTarget, *, overwrite: bool = False) -> None:
    """Check before a model is loaded what `write_export` needs; raises as it does."""
    require_packages(to)
    check_path(folder)
    if os.path.lexists(folder) and not overwrite:
        raise StorageError(f"{folder} exists; pass overwrite=True, or choose another folder.")


def _read_precisions(precisions: Iterable[str]) -> list[str]:
    wanted = [precisions] if isinstance(precisions, str) else list(dict.fromkeys(precisions))
    for precision in wanted:
        check_choice("precision", precision, BOUNDS)
    if not wanted:
        raise ConfigError(f"precisions must name one of {', '.join(BOUNDS)}, got none.")
    return wanted


def _copy_runtime(clip: Clip) -> Runtime:
    """The model in fp32, in eval mode and on the CPU; a copy only if it is not."""
    model, cpu = clip.model, torch.device("cpu")
    plain = clip.device == cpu and clip.runtime.precision == "fp32"
    if plain and not any(module.training for module in model.modules()):
        return clip.runtime
    return Runtime(copy.deepcopy(model).eval(), "fp32", cpu)


def _write_towers(
    clip: Clip, runtime: Runtime, program: Program, precisions: list[str], draft: Path
) -> Iterator[ExportedFile]:
    """Write, open and compare every file; ExportError for the first one that fails."""
    ours = {"image": runtime.image, "text": runtime.text}
    for precision, tower in product(precisions, (runtime.model.image, runtime.model.text)):
        if tower is None:
            continue
        graph = graph_of(tower if precision == "fp32" else copy.deepcopy(tower).half())
        path = draft / _name(program, graph.tower, precision)
        about = {"tower": graph.tower, "precision": precision, "space": clip.card.space}
        note = json.dumps({"name": clip.card.name, **about})
        with _explains(program, path.name):
            program.write(graph, path, note)
            run = program.start(path, graph.input)
            agreement = compare(run, ours[graph.tower], _batches(clip, graph.tower))
        check_agreement(agreement, path.name, precision, checker_of(program))
        size = sum(found.stat().st_size for found in draft.glob(f"{path.name}*"))
        yield ExportedFile(
            path.name, graph.tower, precision, size, hash_file(path).hexdigest(), agreement
        )


@contextmanager
def _explains(program: Program, name: str) -> Iterator[None]:
    """Raise ExportError for what exporters and runtimes raise, which have no common class."""
    try:
        yield
    except (OSError, EclipticError):
        raise
    except Exception as reason:
        first = str(reason).strip().splitlines()[:1] or [type(reason).__name__]
        raise ExportError(
            f"{name} cannot be made with {checker_of(program)} and torch {torch.__version__}: "
            f"{first[0][:500]}; try other versions, or the other kind of file."
        ) from reason


def _batches(clip: Clip, tower: str) -> Iterator[Tensor]:
    return image_batches(clip.preprocessor) if tower == "image" else token_batches(clip.tokenizer)


def _name(program: Program, tower: str, precision: str) -> str:
    return f"{tower}{_HALF[precision]}{program.suffix}"


def _all_names() -> Iterator[str]:
    """Every file that an export may have."""
    yield from (f"{tower}.json" for tower in TOWERS)
    for program, tower, precision in product(PROGRAMS.values(), TOWERS, _HALF):
        name = _name(program, tower, precision)
        yield from (name, f"{name}.data")


def _notes(clip: Clip, wanted: list[str]) -> Iterator[str]:
    yield from clip.card.notes
    for tower in TOWERS:
        if getattr(clip.model, tower) is None:
            yield f"the model has no {tower} tower, so there is no {tower} file"
    if clip.model.image is not None and clip.preprocessor.pixels != "exact":
        made = clip.preprocessor.pixels
        yield f"here images become {made} pixels; the steps of image.json make the exact ones"
    if "fp32" in wanted and clip.runtime.precision != "fp32":
        yield f"the weights are those of {clip.runtime.precision}, written as fp32"


def _write_json(draft: Path, clip: Clip, export: Export) -> None:
    facts = {
        "to": export.to,
        "opset": export.opset,
        "checked_with": export.checker,
        "files": [asdict(file) for file in export.files],
        "notes": list(export.notes),
    }
    descriptions: dict[str, dict[str, Any]] = {ABOUT: describe_model(clip, facts)}
    if clip.model.image is not None:
        descriptions["image.json"] = describe_image(clip.preprocessor, clip.card.embed)
    if clip.model.text is not None:
        descriptions["text.json"] = describe_text(clip.tokenizer.spec, clip.card.embed)
    for name, description in descriptions.items():
        text = json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False)
        replace_file(draft / name, text_writer(text + "\n"))
