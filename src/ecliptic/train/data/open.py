"""From settings to sources, their mixture, and batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecliptic.inputs import ImageSpec, Tokenizer
from ecliptic.train.data.augmentations import open_augmentation
from ecliptic.train.data.batches import Batches, BatchMaker
from ecliptic.train.data.examples import Examples
from ecliptic.train.data.folders import open_folder
from ecliptic.train.data.mixture import Mixture
from ecliptic.train.settings import FolderConfig, SourceConfig, TrainSettings


@dataclass(frozen=True, eq=False)
class Data:
    """The training data of a run, for one process."""

    sources: Sequence[Examples]
    mixture: Mixture
    maker: BatchMaker
    batches: Batches


def open_data(
    settings: TrainSettings,
    image_spec: ImageSpec,
    tokenizer: Tokenizer,
    rank: int = 0,
    size: int = 1,
) -> Data:
    """Open the sources of a run.

    Raises:
        ConfigError: no source, or an empty one.
        StorageError: a source cannot be read.
    """
    data = settings.data
    sources = open_sources(data.sources, data.root)
    weights = [source.weight for source in data.sources]
    lengths = [len(source) for source in sources]
    mixture = Mixture(lengths, weights, data.batch, settings.seed, data.held_out)
    augmentation = open_augmentation(data.augment, image_spec)
    maker = BatchMaker(
        sources, mixture, augmentation, tokenizer, settings.seed, rank=rank, size=size
    )
    return Data(sources, mixture, maker, Batches(maker, workers=data.workers, ahead=data.ahead))


def open_sources(configs: Sequence[SourceConfig], root: Path) -> list[Examples]:
    """Open each source; relative paths begin at `root`."""
    return [_open_source(config, root) for config in configs]


def _open_source(config: SourceConfig, root: Path) -> Examples:
    if isinstance(config, FolderConfig):
        return open_folder(config, root)
    raise NotImplementedError(type(config))
