"""Images in a folder with captions in text files of the same stem."""

import hashlib
from pathlib import Path
from random import Random

from ecliptic.engine import image_files
from ecliptic.errors import StorageError
from ecliptic.storage import read_text
from ecliptic.train.data.examples import Example, Picture
from ecliptic.train.settings import FolderConfig

LONGEST = 1 << 16  # bytes of a caption file


class FolderExamples:
    """The images under a folder that have captions beside them, in the order of their paths.

    Args:
        folder: the folder; folders in it are read too.
        suffix: of the caption files, one caption a line.
        templates: one is drawn for each caption.
    """

    def __init__(self, folder: Path, suffix: str, templates: tuple[str, ...]) -> None:
        self.folder, self.suffix, self.templates = folder, suffix, templates
        images = [Path(str(item.value)) for item in image_files(str(folder), warns=False)]
        self.files = [str(p.relative_to(folder)) for p in images if self._beside(p).is_file()]

    def __len__(self) -> int:
        return len(self.files)

    def draw(self, index: int, random: Random) -> Example:
        """The image, and a caption of it in a template, if there are any."""
        caption = random.choice(self.captions(index))
        if self.templates:
            caption = random.choice(self.templates).replace("{}", caption)
        return Example(self.files[index], self.picture(index), caption)

    def picture(self, index: int) -> Picture:
        """The path of the image."""
        return self.folder / self.files[index]

    def captions(self, index: int) -> tuple[str, ...]:
        """The lines of the caption file.

        Raises:
            StorageError: it has none, or cannot be read.
        """
        path = self._beside(self.folder / self.files[index])
        lines = read_text(path, StorageError, LONGEST).splitlines()
        found = tuple(stripped for line in lines if (stripped := line.strip()))
        if not found:
            raise StorageError(f"{path} holds no caption; write one a line.")
        return found

    def fingerprint(self) -> str:
        """Hex of the names, sizes and times of all images and captions."""
        digest = hashlib.sha256(self.suffix.encode())
        for file in self.files:
            for path in (self.folder / file, self._beside(self.folder / file)):
                facts = path.stat()
                digest.update(f"{file}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def _beside(self, image: Path) -> Path:
        return image.with_suffix(self.suffix)


def open_folder(config: FolderConfig, root: Path) -> FolderExamples:
    """Open the folder of a source.

    Raises:
        StorageError: there is no such folder, or no image in it has captions.
    """
    folder = root / config.path
    if not folder.is_dir():
        raise StorageError(f"there is no folder {folder}; check data.sources and data.root.")
    found = FolderExamples(folder, config.captions, config.templates)
    if not found.files:
        raise StorageError(
            f"no image in {folder} has captions beside it; write those of cat.jpg into "
            f"cat{config.captions}, one a line."
        )
    return found
