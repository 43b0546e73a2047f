"""Examples in tar files: members of one stem are one example, as webdataset has them.

The key of a member is its path up to the first dot of its last component, its extension the rest
in small letters; the members of an example follow each other.
Source: webdataset 1.0.2, tariterators.py `base_plus_ext`, `group_by_keys`.
"""

import glob
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from ecliptic.engine import LeftOutWarning
from ecliptic.errors import ConfigError, InputError, StorageError, did_you_mean, warn
from ecliptic.inputs import DEFAULT_LIMITS, ImageSource
from ecliptic.storage import Member, TarFile
from ecliptic.train.data.captions import Captioner, clean
from ecliptic.train.data.examples import Example, hash_files
from ecliptic.train.data.text_lists import TextList
from ecliptic.train.settings import TarsConfig

LONGEST = 1 << 20  # bytes of a member with captions
MOST_OPEN = 64  # tars of a process
MOST_EXTENSIONS = 100  # that a message may name
MOST_TARS = 1 << 20  # that a pattern may name
_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)\Z", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")  # members about the tar itself
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_NO_MEMBER = -1
_PICKLES = {"pkl", "pickle", "pyd", "pth", "pt"}


class Tars:
    """Tar files that are opened when they are first read, by each process for itself."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = TextList(map(str, paths))
        self.facts: dict[int, tuple[int, int]] = {}  # of each file when it was indexed
        self._open: dict[int, TarFile] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_open": {}}

    def members(self, number: int) -> Iterator[Member]:
        """The files in a tar."""
        tar = TarFile(Path(self.paths[number]))
        self.facts[number] = tar.facts
        try:
            yield from tar.members()
        finally:
            tar.close()

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Bytes of a tar.

        Raises:
            StorageError: the file has changed since the run began, or cannot be read.
        """
        tar = self._open.get(number)
        if tar is None:
            tar = TarFile(Path(self.paths[number]))
            if len(self._open) >= MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = tar
        data = tar.read(offset, size)
        if tar.facts != self.facts[number] or len(data) != size:
            raise StorageError(f"{tar.path} has changed since it was read; start again.")
        return data

    def fingerprint(self) -> str:
        """`hash_files` of the files."""
        folders = [os.path.dirname(path) for path in self.paths]  # noqa: PTH120
        return hash_files(self.paths, os.path.commonpath(folders) if folders else "")


class TarExamples:
    """Examples in tars.

    Args:
        paths: of the tars.
        config: extensions of images and captions.

    Raises:
        StorageError: a tar is damaged or refused, none holds an example, or no member has an
            extension that is named.

    Warns:
        LeftOutWarning: examples without an image or without captions.
    """

    def __init__(self, paths: Sequence[Path], config: TarsConfig) -> None:
        self.config, self.tars = config, Tars(paths)
        self.captioner = Captioner(config.templates)
        self.images = [name.lower() for name in config.image]
        self.wanted = [_split_field(name) for name in config.captions]
        self._lacking: Counter[str] = Counter()  # what examples without a part have
        self._extensions: dict[str, None] = {}  # of all members, in order
        rows: list[tuple[int, ...]] = []
        self.keys = TextList(self._index(rows))
        lacking = self._lacking.total()
        has = ", ".join(self._lacking)
        if not rows:
            raise StorageError(
                f"no example in {config.path} has an image ({', '.join(config.image)}) and "
                f"captions ({', '.join(config.captions)}); {has or 'there is no example'}."
            )
        self._check_extensions()
        self.places = np.array(rows, np.int64)  # (N, 1 + 2 (1 + captions)): tar, offset, size, ...
        if lacking:
            warn(
                f"{config.path}: left out {lacking} of {lacking + len(rows)} examples, which lack "
                f"an image or captions: {has}",
                LeftOutWarning,
                stacklevel=None,
            )

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, index: int, random: Random) -> Example:
        """The image, and one of its captions."""
        caption = self.captioner.draw(self.captions(index), random)
        return Example(self._name(index), self.picture(index), caption)

    def picture(self, index: int) -> ImageSource:
        """The bytes of the image.

        Raises:
            ImageLimitError: they are too many.
            StorageError: the tar has changed.
        """
        tar, offset, size = self.places[index, :3].tolist()
        DEFAULT_LIMITS.check_bytes(size, self._name(index))
        return self.tars.read(tar, offset, size)

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions; a text is one caption, whatever its lines.

        Raises:
            InputError: there is none that can be used.
            StorageError: the tar has changed.
        """
        tar, _, _, *places = self.places[index].tolist()
        found: list[str] = []
        for (_, field), offset, size in zip(self.wanted, places[::2], places[1::2], strict=True):
            if offset == _NO_MEMBER:
                continue
            if size > LONGEST:
                raise InputError(f"{self._name(index)}: a caption has more than {LONGEST} bytes.")
            found += _parse(self.tars.read(tar, offset, size), field, self._name(index))
        if not (texts := clean(found)):
            raise InputError(f"{self._name(index)} has no caption.")
        return texts

    def fingerprint(self) -> str:
        """`hash_files` of the tars."""
        return self.tars.fingerprint()

    def _index(self, rows: list[tuple[int, ...]]) -> Iterator[str]:
        """The key of each example; where its members are goes into `rows`."""
        named = self._named()
        for number, path in enumerate(self.tars.paths):
            for key, members in group_members(self.tars.members(number), path):
                for extension in members:
                    if extension in named or len(self._extensions) < MOST_EXTENSIONS:
                        self._extensions[extension] = None
                image = next((members[e] for e in self.images if e in members), None)
                texts = [members.get(extension) for extension, _ in self.wanted]
                if image is None or not any(texts):
                    what = f"{key} in {Path(path).name} has {', '.join(members)}"
                    self._lacking[what if not self._lacking else "and others"] += 1
                    continue
                places = [(_NO_MEMBER, 0) if m is None else (m.offset, m.size) for m in texts]
                rows.append((number, image.offset, image.size, *itertools.chain(*places)))
                yield key

    def _named(self) -> dict[str, None]:
        """The extensions that are read, in order."""
        return dict.fromkeys([*self.images, *(extension for extension, _ in self.wanted)])

    def _check_extensions(self) -> None:
        """Raise StorageError if no member has an extension that is named; usual ones may lack."""
        for name in self._named():
            if name in self._extensions or name in TarsConfig.image:
                continue
            near = did_you_mean(name, self._extensions)
            raise StorageError(
                f"no member in {self.config.path} has the extension {name!r}; they have "
                f"{', '.join(self._extensions)}; " + (near or "leave it out.")
            )

    def _name(self, index: int) -> str:
        tar = Path(self.tars.paths[int(self.places[index, 0])]).name
        return f"{tar}/{self.keys[index]}"


def group_members(
    members: Iterable[Member], where: object
) -> Iterator[tuple[str, Mapping[str, Member]]]:
    """(key, members by extension) of each run of members with one key.

    Raises:
        StorageError: an extension comes twice.
    """
    with_keys = ((split, m) for m in members if (split := split_name(m.name)))
    for key, group in itertools.groupby(with_keys, lambda one: one[0][0]):
        found: dict[str, Member] = {}
        for (_, extension), member in group:
            if extension in found:
                raise StorageError(f"{where} has {member.name!r} twice; tar each file once.")
            found[extension] = member
        yield key, found


def split_name(name: str) -> tuple[str, str] | None:
    """(key, extension) of a member; None for hidden files, for those without a dot, and for notes.

    "a/b.seg.png" is ("a/b", "seg.png").
    """
    found = _KEY.match(name)
    return None if found is None or _META.match(name) else (found[1], found[2].lower())


def expand(pattern: str) -> list[Path]:
    """The tars of a file name, a folder, or a pattern with braces, "*", "?" or "[...]", in order.

    "{00..99}" counts with leading zeros, "{a,b}" lists; names made by braces must all exist.

    Raises:
        StorageError: no file is there, or too many are named.
    """
    if Path(pattern).is_dir():
        found = sorted(Path(pattern).glob("*.tar"))
    else:
        names = [pattern] if Path(pattern).exists() else list(_expand_braces(pattern))
        found = [path for name in names for path in _match(name)]
    if not found:
        raise StorageError(f"no tar is in {pattern} or matches it; check data.sources.")
    return found


def open_tars(config: TarsConfig, root: Path) -> TarExamples:
    """Open the tars of a source.

    Raises:
        ConfigError: no extension is named.
        StorageError: a tar is missing, damaged or refused.
    """
    if not config.image or not config.captions:
        raise ConfigError("image and captions of a source of tars must name extensions.")
    if pickles := _PICKLES & {_split_field(name)[0] for name in (*config.captions, *config.image)}:
        raise ConfigError(
            f"members with the extension {min(pickles)!r} can run any program when they are read; "
            "store texts as txt or json."
        )
    if "json" in (name.lower() for name in config.captions):
        raise ConfigError(
            'captions = ["json"] would train on JSON as it is written; name the field, such as '
            '"json:caption".'
        )
    return TarExamples(expand(str(root / config.path)), config)


def _match(name: str) -> list[Path]:
    if Path(name).exists() or not glob.has_magic(name):
        return [Path(name)]
    return sorted(map(Path, glob.glob(name)))  # noqa: PTH207 patterns may be absolute


def _expand_braces(pattern: str) -> Iterator[str]:
    """Every name that a pattern makes; the last braces count fastest."""
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[part] if i % 2 == 0 else _choices(part) for i, part in enumerate(parts)]
    count = 1
    for some in choices:
        count *= len(some)
    if count > MOST_TARS:
        raise StorageError(f"{pattern} names {count} files, more than {MOST_TARS}; use less.")
    return ("".join(chosen) for chosen in itertools.product(*choices))


def _choices(inside: str) -> Sequence[str]:
    """What stands for "{inside}"; itself if it is neither a range nor a list."""
    if found := _RANGE.fullmatch(inside):
        first, last = int(found[1]), int(found[2])
        if abs(last - first) >= MOST_TARS:
            raise StorageError(f"{{{inside}}} names more than {MOST_TARS} files; use less.")
        width = len(found[1]) if found[1].lstrip("-").startswith("0") else 0
        step = 1 if last >= first else -1
        return [str(n).zfill(width) for n in range(first, last + step, step)]
    return inside.split(",") if "," in inside else [f"{{{inside}}}"]


def _split_field(name: str) -> tuple[str, str]:
    """ "json:caption" -> ("json", "caption"); "txt" -> ("txt", "")."""
    extension, _, field = name.partition(":")
    return extension.lower(), field


def _parse(data: bytes, field: str, where: str) -> list[str]:
    """The captions in a member: its text, or the text or texts in a field of its JSON."""
    try:
        text = data.decode("utf-8-sig")
        if not field:
            return [text]
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: a caption cannot be read: {error}.") from None
    value = value.get(field) if isinstance(value, dict) else None
    texts = [v for v in (value if isinstance(value, list) else [value]) if v is not None]
    if not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}: the field {field!r} is no text and no list of texts.")
    return texts
