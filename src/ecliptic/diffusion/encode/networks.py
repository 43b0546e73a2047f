"""LoRAs that prompts name in A1111's tags `<lora:name:0.8>`: found, and merged for one call.

As in A1111's web UI, the LoRAs of a prompt change the encoders for its negative too, and tags of
one name add up. Unlike there, each prompt of a batch has its own LoRAs, and none is left out of it
without a word. B prompts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from ecliptic.adapters import Lora, read_lora
from ecliptic.diffusion.adapted import Adapters
from ecliptic.diffusion.conditioning import ConditioningWarning, NetworkUse
from ecliptic.diffusion.encode.request import Loras, Request
from ecliptic.diffusion.options import Options
from ecliptic.errors import ConfigError, EclipticError, NumericalError, did_you_mean, warn
from ecliptic.prompts import Network, parse

LoraFiles: TypeAlias = Mapping[str, str | Path] | str | Path  # by name, or a folder of them
Merge: TypeAlias = Callable[[Loras], AbstractContextManager[None]]
_SUFFIX = ".safetensors"


class LoraShelf:
    """The LoRA files that prompts may name; each is read once, and again when it changes."""

    def __init__(self, files: LoraFiles) -> None:
        """Keep the names of `files`.

        Raises:
            ConfigError: a folder that does not exist.
        """
        self._files = files if isinstance(files, Mapping) else Path(files)
        self._read: dict[str, tuple[tuple[Path, int, int], Lora]] = {}
        if isinstance(self._files, Path) and not self._files.is_dir():
            raise ConfigError(
                f"{self._files} is no folder; loras=... is a folder of LoRA files, or their paths "
                "by name."
            )

    def read(self, name: str) -> Lora:
        """The LoRA called `name`.

        Raises:
            ConfigError: no file or several files have that name.
            CheckpointError, UnknownModelError: the file cannot be used.
        """
        path = self._find(name)
        about = path.stat() if path.exists() else None
        stamp = (path, about.st_mtime_ns if about else 0, about.st_size if about else 0)
        if name not in self._read or self._read[name][0] != stamp:
            self._read[name] = stamp, read_lora(path)
        return self._read[name][1]

    def identity(self) -> dict[str, str]:
        """SHA-256 of the file of every name that can be used, for keys of caches."""
        found = {}
        for name in sorted(self._paths()):
            try:
                found[name] = self.read(name).sha256
            except EclipticError:  # whoever uses it gets the error, so nothing is stored
                continue
        return found

    def _find(self, name: str) -> Path:
        paths = self._paths()
        found = paths.get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            raise ConfigError(
                f"several files are called {name!r}: {', '.join(map(str, found))}; rename all but "
                "one, or pass their paths by name."
            )
        where = f" in {self._files}" if isinstance(self._files, Path) else ""
        fix = did_you_mean(name, paths) or "check the name, which has no folders and no suffix."
        raise ConfigError(f"there is no LoRA {name!r}{where or ' in loras=...'}; {fix}")

    def _paths(self) -> dict[str, list[Path]]:
        """The files of every name; a name in a prompt is compared, never used as a path."""
        if isinstance(self._files, Mapping):
            return {name: [Path(path)] for name, path in self._files.items()}
        found: dict[str, list[Path]] = {}
        for path in sorted(self._files.rglob(f"*{_SUFFIX}")):
            found.setdefault(path.name.removesuffix(_SUFFIX), []).append(path)
        return found


class Networks:
    """Reads the tags of prompts, and merges their LoRAs into the encoders of a conditioner."""

    def __init__(self, adapters: Adapters, files: LoraFiles | None) -> None:
        self._adapters = adapters
        self._stacks = adapters.stacks
        self._shelf = None if files is None else LoraShelf(files)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other calls, also of conditioners with the same encoders, off their weights."""
        with ExitStack() as held:
            for lock in sorted((stack.lock for stack in self._stacks), key=id):  # no deadlock
                held.enter_context(lock)
            yield

    def read(self, request: Request, options: Options) -> tuple[Request, tuple[NetworkUse, ...]]:
        """The request with the LoRAs of each prompt, and every tag with what becomes of it.

        Raises:
            ConfigError: a LoRA cannot be found, or gradients are wanted through it.
            CheckpointError, UnknownModelError: a file cannot be used.

        Warns:
            ConditioningWarning: a tag is in a negative prompt.
        """
        wordings = list(zip(*request.positive, strict=True))
        tags = [_read_tags(texts, options) for texts in wordings]
        if options.dialect == "a1111":
            _warn_of_negatives(request)
        uses = [
            use
            for prompt, some in enumerate(tags)
            for use in _find_zeros([self._look_up(prompt, tag) for tag in some])
        ]
        loras = tuple(
            _add_up(one.network for one in uses if one.prompt == prompt and one.applied)
            for prompt in range(len(tags))
        )
        if options.grad and any(loras):
            raise ConfigError(
                "the LoRAs of a prompt are merged for one call only, so no gradient can flow "
                "through them afterwards; merge them with add_lora, or leave out grad=True."
            )
        return replace(request, loras=loras), tuple(uses)

    def warn(self, uses: Iterable[NetworkUse]) -> None:
        """Warn of the tags of one call that change no encoder, or not with all of their file.

        Warns:
            ConditioningWarning: likewise, once for equal tags or files.
        """
        uses = list(uses)
        for problem in dict.fromkeys(
            f"{_quote(one.network)} {one.problem}" for one in uses if one.problem
        ):
            warn(problem, ConditioningWarning, stacklevel=None)
        for name in dict.fromkeys(one.network.name for one in uses if one.idle and one.applied):
            assert self._shelf is not None  # it gave the name
            lora = self._shelf.read(name)
            idle = self._adapters.find_idle(lora, self._adapters.preview(name, lora))
            self._adapters.warn_of_idle(idle, lora.source)

    @contextmanager
    def merge(self, loras: Loras) -> Iterator[None]:
        """Merge LoRAs into all encoders, and take them off at the end, whatever happens.

        Raises:
            NumericalError: with them, or with lasting ones, a weight or a result is not finite.
        """
        added: list[Callable[[], None]] = []
        try:
            for name, scale in loras:
                assert self._shelf is not None  # it gave the name
                lora, own = self._shelf.read(name), f"<lora:{name}>"
                for stack in self._stacks:
                    stack.add(own, lora, scale)
                    added.append(partial(stack.remove, own))
            with self._blame_scales():
                yield
        finally:
            for remove in reversed(added):
                remove()

    @contextmanager
    def _blame_scales(self) -> Iterator[None]:
        """Name the merged LoRAs, if there are any, in the error for a result that is not finite."""
        try:
            yield
        except NumericalError as error:
            scales = {name: scale for one in self._stacks for name, scale in one.scales.items()}
            if not scales:
                raise
            listed = ", ".join(f"{name} at {_show(scale)}" for name, scale in scales.items())
            raise NumericalError(
                f"with the merged LoRA {listed}, the text encoder gave NaN or infinity; pass a "
                "smaller scale, since a large one makes weights or results infinite; if it is "
                'near 1, load with precision="bf16" or "fp32".'
            ) from error

    def identity(self) -> dict[str, str]:
        """SHA-256 of every LoRA that prompts may name."""
        return {} if self._shelf is None else self._shelf.identity()

    def _look_up(self, prompt: int, tag: Network) -> NetworkUse:
        """What becomes of a tag, apart from its scale.

        Raises:
            ConfigError, CheckpointError, UnknownModelError: its file cannot be found or used.
        """
        if problem := self._find_problem(tag):
            return NetworkUse(prompt, tag, problem)
        assert self._shelf is not None  # or there was a problem
        lora = self._shelf.read(tag.name)
        reports = self._adapters.preview(tag.name, lora)
        if any(report.applied for report in reports):
            return NetworkUse(prompt, tag, idle=len(self._adapters.find_idle(lora, reports)))
        return NetworkUse(
            prompt,
            tag,
            "changes no text encoder here: its file has no layers for them; load it into the "
            "denoiser, or use another LoRA.",
        )

    def _find_problem(self, tag: Network) -> str:
        """Say why a tag is not applied, whatever its file holds; "" if nothing hinders it."""
        if tag.kind == "hypernet":
            return "is left out of the text and not applied: hypernetworks are not supported."
        if not tag.is_lora:
            return (
                f"is left out of the text and not applied, since there are no networks of the kind "
                f"{tag.kind!r}; for words, write '<\\{tag.kind}:'."
            )
        if self._shelf is None:
            return (
                "is left out of the text and not applied; pass loras=..., a folder or the paths by "
                "name, when you make the conditioner."
            )
        if tag.rank is not None:
            return "is left out of the text and not applied: dyn= is not supported; leave it out."
        return ""


def _find_zeros(uses: Sequence[NetworkUse]) -> list[NetworkUse]:
    """The uses of one prompt; those with a scale of 0, alone or in sum, are not applied."""
    kept = {name for name, _ in _add_up(one.network for one in uses if one.applied)}
    found = []
    for one in uses:
        if one.applied and one.network.name not in kept:
            alone = "at scale 0" if one.network.weight == 0 else "since its scales add up to 0"
            comma = " " if one.network.weight == 0 else ", "
            problem = f"changes nothing{comma}{alone}; give it another, or leave it out."
            one = replace(one, problem=problem, idle=0)
        found.append(one)
    return found


def _show(scale: float | tuple[float, ...]) -> str:
    """A scale, or the first and the last one of blocks."""
    return f"{scale[0]:g} to {scale[-1]:g}" if isinstance(scale, tuple) else f"{scale:g}"


def _read_tags(texts: Sequence[str], options: Options) -> list[Network]:
    """The tags of one prompt; those of another wording only if they are new."""
    found: dict[tuple[str, ...], list[Network]] = {}
    for text in dict.fromkeys(texts):
        own: dict[tuple[str, ...], list[Network]] = {}
        for tag in parse(text, options.dialect).networks:
            own.setdefault((tag.kind, *tag.items), []).append(tag)
        found = own | found
    return [tag for some in found.values() for tag in some]


def _add_up(tags: Iterable[Network]) -> Loras:
    """The LoRAs of tags, with the sum of the weights of each."""
    found: dict[str, float] = {}
    for tag in tags:
        found[tag.name] = found.get(tag.name, 0.0) + tag.weight
    return tuple((name, scale) for name, scale in found.items() if scale)


def _warn_of_negatives(request: Request) -> None:
    for text in dict.fromkeys(text for texts in request.negative for text in texts):
        for tag in parse(text, "a1111").networks:
            warn(
                f"{_quote(tag)} is encoded as words, since A1111 reads no networks in a negative "
                "prompt; write it into the prompt, whose LoRAs change both sides.",
                ConditioningWarning,
                stacklevel=None,
            )


def _quote(tag: Network) -> str:
    return f"'<{tag.kind}:{':'.join(tag.items)}>'"
