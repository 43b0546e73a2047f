"""From settings to sources, their mixture, and batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, Tokenizer
from ecliptic.train.data.archives import open_tars
from ecliptic.train.data.augmentations import open_augmentation
from ecliptic.train.data.batches import Batches, BatchMaker, TextPairMaker
from ecliptic.train.data.datasets import open_dataset
from ecliptic.train.data.drawings import open_drawings
from ecliptic.train.data.examples import Examples, count_examples
from ecliptic.train.data.folders import open_folder
from ecliptic.train.data.mixture import Mixture
from ecliptic.train.data.tables import open_table
from ecliptic.train.data.wordnet import WordNetTables, WordNetTexts
from ecliptic.train.settings import (
    DatasetConfig,
    FolderConfig,
    SourceConfig,
    TableConfig,
    TarsConfig,
    TrainSettings,
)


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
        ConfigError: no source, an empty one, or a share to hold out that is less than an example of
            every source.
        StorageError: a source cannot be read.
    """
    data = settings.data
    tables = WordNetTables()
    sources = open_sources(data.sources, data.root, tables)
    weights = [source.weight for source in data.sources]
    lengths = [count_examples(source, number) for number, source in enumerate(sources)]
    mixture = Mixture(lengths, weights, data.batch, settings.seed, data.held_out)
    _check_held_out(data.held_out, mixture)
    augmentation = open_augmentation(data.augment, image_spec)
    maker = BatchMaker(
        sources,
        mixture,
        augmentation,
        tokenizer,
        settings.seed,
        pairs=_open_pairs(settings, tokenizer, tables),
        rank=rank,
        size=size,
    )
    return Data(sources, mixture, maker, Batches(maker, workers=data.workers, ahead=data.ahead))


def _open_pairs(
    settings: TrainSettings, tokenizer: Tokenizer, tables: WordNetTables
) -> TextPairMaker | None:
    """What makes the text pairs of a run; None without sources of them."""
    texts = settings.data.texts
    if not texts.sources:
        return None
    root = settings.data.root
    sources = [WordNetTexts(tables.find(root / source.path), source) for source in texts.sources]
    weights = [source.weight for source in texts.sources]
    mixture = Mixture([len(s) for s in sources], weights, texts.batch, settings.seed)
    return TextPairMaker(sources, mixture, tokenizer, settings.seed)


def _check_held_out(share: float, mixture: Mixture) -> None:
    """Raise ConfigError if a share above 0 holds nothing out."""
    if share and not any(mixture.held):
        most = max(mixture.lengths)
        raise ConfigError(
            f"data.held_out = {share:g} holds nothing out: the largest source has {most} examples, "
            f"so one of them is a share of {1 / most:.2g}; set it to that or more, or to 0."
        )


def open_sources(
    configs: Sequence[SourceConfig], root: Path, tables: WordNetTables | None = None
) -> list[Examples]:
    """Open each source; relative paths begin at `root`, and `tables` are those read before."""
    tables = tables or WordNetTables()
    return [_open_source(config, root, tables) for config in configs]


def _open_source(config: SourceConfig, root: Path, tables: WordNetTables) -> Examples:
    if isinstance(config, FolderConfig):
        return open_folder(config, root)
    if isinstance(config, TableConfig):
        return open_table(config, root)
    if isinstance(config, TarsConfig):
        return open_tars(config, root)
    if isinstance(config, DatasetConfig):
        return open_dataset(config, root)
    return open_drawings(config, root, tables)
