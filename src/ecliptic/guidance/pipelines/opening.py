"""Opens a pipeline of diffusers from its folder, for guidance; nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch

from ecliptic.errors import CheckpointError
from ecliptic.guidance.pipelines.families import check_diffusers, recognise_pipeline

INDEX = "model_index.json"


def open_pipeline(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Load a pipeline that `guided_pipeline` can guide.

    Args:
        folder: that diffusers' `save_pretrained` wrote.
        device: of the pipeline.
        dtype: of its weights.

    Raises:
        CheckpointError: no folder of a pipeline, or one that cannot be loaded.
        ConfigError: a pipeline that cannot be guided.
        MissingExtraError: diffusers is not installed.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}; check the path.")
    if not (folder / INDEX).is_file():
        raise CheckpointError(
            f"{folder} has no {INDEX}, so it is no folder of a pipeline; download one, such as "
            "with `hf download NAME --local-dir FOLDER`, and name its folder."
        )
    check_diffusers()
    from diffusers import DiffusionPipeline

    try:
        pipe = DiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
            str(folder), local_files_only=True, torch_dtype=dtype
        )
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder} cannot be loaded by diffusers: {reason}") from error
    recognise_pipeline(pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)
