"""Random weights of a released architecture, so that it can be measured without a download.

Speed and memory do not depend on the values of the weights.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecliptic.checkpoints import Checkpoint, catalog, write
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import random_model


@contextmanager
def random_checkpoint(architecture: str) -> Iterator[Path]:
    """Write random float32 weights of `architecture` to a temporary folder, and yield its path.

    The folder is removed at the end.

    Args:
        architecture: a name of the catalog, such as "ViT-B-32"; "ViT-B-32/openai" has the
            activation of those weights.

    Raises:
        UnknownModelError: no architecture and no weights have this name.
    """
    config = catalog.architecture(architecture)
    checkpoint = Checkpoint(
        config=config,
        weights=random_model(config).state_dict(),
        image_spec=ImageSpec(size=config.image.image_size) if config.image else None,
        tokenizer_spec=TokenizerSpec(context=config.text.context) if config.text else None,
        name=f"{architecture} with random weights",
    )
    with tempfile.TemporaryDirectory(prefix="ecliptic-") as folder:
        path = Path(folder) / "random"
        write(checkpoint, path)
        del checkpoint  # its memory must not count as that of the model
        yield path
