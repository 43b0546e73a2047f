"""Images in a folder with captions in text files of the same stem."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from ecliptic.engine import LeftOutWarning, image_files
from ecliptic.errors import ConfigError, StorageError, warn
from ecliptic.inputs import ImageSource
from ecliptic.storage import read_text
from ecliptic.train.data.captions import Captioner, clean
from ecliptic.train.data.examples import Example, hash_files
from ecliptic.train.data.text_lists import TextList
from ecliptic.train.settings import FolderConfig

LONGEST = 1 << 16  # bytes of a caption file


class FolderExamples:
    """The images under a folder that have captions beside them, in the order of their paths.

    Args:
        folder: the folder; folders in it are read too.
        suffix: of the caption files, in small or capital letters; one caption a line.
        captioner: puts captions into templates.

    Raises:
        InputError: no image is in the folder.
        StorageError: none of them has captions.

    Warns:
        LeftOutWarning: some have none.
    """

    def __init__(self, folder: Path, suffix: str, captioner: Captioner) -> None:
        self.folder, self.suffix, self.captioner = folder, suffix, captioner
        found = [Path(str(item.value)) for item in image_files(str(folder), warns=False)]
        used = [path for path in found if self._beside(path) is not None]
        self.files = TextList(str(path.relative_to(folder)) for path in used)
        if not used:
            raise StorageError(
                f"no image in {folder} has captions beside it; write those of cat.jpg into "
                f"cat{suffix}, one a line."
            )
        if lacking := len(found) - len(used):
            kept = set(used)
            first = next(path for path in found if path not in kept)
            warn(
                f"{folder}: left out {lacking} of {len(found)} images, which have no {suffix} file "
                f"of captions, such as {first.relative_to(folder)}",
                LeftOutWarning,
                stacklevel=None,
            )

    def __len__(self) -> int:
        return len(self.files)

    def draw(self, index: int, random: Random) -> Example:
        """The image, and a caption of it in a template, if there are any."""
        caption = self.captioner.draw(self.captions(index), random)
        return Example(self.files[index], self.picture(index), caption)

    def picture(self, index: int) -> ImageSource:
        """The path of the image."""
        return self.folder / self.files[index]

    def captions(self, index: int) -> tuple[str, ...]:
        """The lines of the caption file.

        Raises:
            StorageError: it has none, or cannot be read.
        """
        image = self.folder / self.files[index]
        path = self._beside(image)
        if path is None:
            raise StorageError(f"{image.with_suffix(self.suffix)} is gone; restore it.")
        try:
            found = clean(read_text(path, StorageError, LONGEST).lstrip("\ufeff").splitlines())
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}.") from None
        if not found:
            raise StorageError(f"{path} holds no caption; write one a line.")
        return found

    def fingerprint(self) -> str:
        """`hash_files` of all images and captions."""
        return hash_files(self._paths(), self.folder)

    def _paths(self) -> Iterator[os.PathLike[str]]:
        for file in self.files:
            image = self.folder / file
            yield image
            yield self._beside(image) or image.with_suffix(self.suffix)

    def _beside(self, image: Path) -> Path | None:
        """The caption file of an image, if there is one."""
        names = (self.suffix, self.suffix.upper())
        return next((p for name in names if (p := image.with_suffix(name)).is_file()), None)


def open_folder(config: FolderConfig, root: Path) -> FolderExamples:
    """Open the folder of a source.

    Raises:
        ConfigError: the suffix of the captions is none.
        InputError, StorageError: there is no such folder, or no image in it has captions.
    """
    folder = root / config.path
    if not re.fullmatch(r"\.[^./\\]+", config.captions):
        raise ConfigError(
            f"captions = {config.captions!r} of {folder} is no suffix of a file; write it with its "
            'dot, such as ".txt".'
        )
    if not folder.is_dir():
        raise StorageError(f"there is no folder {folder}; check data.sources and data.root.")
    return FolderExamples(folder, config.captions, Captioner(config.templates))
