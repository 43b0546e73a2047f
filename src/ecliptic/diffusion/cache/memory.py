"""A conditioner with a cache of its last results in memory, for interactive use.

Its size is limited; it drops the least recently used result. It returns copies. Equal requests at
the same time are computed once. A key covers the identity of the conditioner at the time of the
call, so a new LoRA is a cache miss; what was computed while the identity changed is returned, but
not kept. For single prompts it can also read a folder of `write_cache`.
"""

import copy
import dataclasses
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, Unpack

from torch import Tensor

from ecliptic.diffusion.arguments import PromptTensors
from ecliptic.diffusion.cache.keys import (
    TextConditioner,
    cache_identity,
    canonical_json,
    condition_key,
    size_of,
)
from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.options import HowOptions, Options
from ecliptic.errors import ConfigError

C = TypeVar("C", bound=PromptTensors)
C_co = TypeVar("C_co", bound=PromptTensors, covariant=True)


class CallableConditioner(TextConditioner, Protocol[C_co]):
    """A conditioner that is called with a prompt."""

    def __call__(self, *prompt: Any, **options: Any) -> C_co:
        """The conditioning of one call."""


@dataclasses.dataclass(frozen=True)
class CacheStatistics:
    """The counts of a memory cache so far, and its present size."""

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int  # of the tensors


class CachedConditioner(Generic[C]):
    """Wraps a conditioner; the results of equal calls come from memory."""

    def __init__(
        self,
        conditioner: CallableConditioner[C],
        capacity: int = 256,
        *,
        limit: int | None = None,
        folder: Path | str | None = None,
    ) -> None:
        """Wrap `conditioner`.

        Args:
            conditioner: computes the results.
            capacity: largest number of results to keep.
            limit: most bytes of tensors to keep; a larger result is not kept.
            folder: of `write_cache`; `each` looks there before it computes.
        """
        if capacity < 1 or (limit is not None and limit < 1):
            raise ConfigError(
                f"capacity and limit must be at least 1, got capacity {capacity} and limit "
                f"{limit}; call the conditioner itself to keep nothing."
            )
        self.conditioner = conditioner
        self.capacity, self.limit = capacity, limit
        self._folder = None if folder is None else ConditionCache(folder)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Future[Any], int]] = OrderedDict()  # bytes too
        self._running: dict[str, Future[Any]] = {}
        self._hits = self._misses = self._evictions = self._bytes = 0

    def __call__(self, prompt: Any, negative: Any = None, **options: Any) -> C:
        """The conditioner's result for the same arguments, from memory if it is there."""
        given = {"prompt": prompt, "negative": negative, **options}

        def compute() -> C:
            return self.conditioner(prompt, negative=negative, **options)

        find_key = partial(_key_of_call, self.conditioner, given)
        key = find_key()
        if key is None:  # an argument without JSON form, such as an image
            with self._lock:
                self._misses += 1
            return compute()
        found: C = self._recall(key, compute, find_key)
        return found

    def each(
        self, prompts: Sequence[str], **options: Unpack[HowOptions]
    ) -> Sequence[PromptTensors]:
        """One conditioning per prompt, each at its own length: from memory, folder, or computed."""
        identity = cache_identity(self.conditioner, **options)

        def compute(prompt: str, key: str) -> PromptTensors:
            stored = None if self._folder is None else self._folder.get(key)
            return stored or self.conditioner.each([prompt], **options)[0]

        def find_key(prompt: str) -> str:
            return condition_key(cache_identity(self.conditioner, **options), prompt)

        keys = [condition_key(identity, prompt) for prompt in prompts]
        return [
            self._recall(key, partial(compute, prompt, key), partial(find_key, prompt))
            for prompt, key in zip(prompts, keys, strict=True)
        ]

    def identity(self, **options: Unpack[HowOptions]) -> Mapping[str, Any]:
        """The identity of the wrapped conditioner."""
        return self.conditioner.identity(**options)

    @property
    def statistics(self) -> CacheStatistics:
        """Counts so far."""
        with self._lock:
            return CacheStatistics(
                self._hits, self._misses, self._evictions, len(self._kept), self._bytes
            )

    def clear(self) -> None:
        """Drop all results; the counts stay."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _recall(
        self, key: str, compute: Callable[[], Any], find_key: Callable[[], str | None]
    ) -> Any:
        """Return a copy of the result of `key`; the first caller computes it, the others wait.

        It is kept if `find_key` still gives `key` then: the conditioner is the one it was.
        """
        with self._lock:
            found = self._find(key)
            if found is None:
                self._misses += 1
                mine = self._running[key] = Future()
            else:
                self._hits += 1
        if found is not None:
            return clone(found.result())
        try:
            result = compute()
            mine.set_result(result)
            if find_key() == key:
                self._keep(key, mine)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._running[key]
        return clone(result)

    def _find(self, key: str) -> Future[Any] | None:
        """Find the result that is kept, or the one that is being computed."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        return self._running.get(key)

    def _keep(self, key: str, result: Future[Any]) -> None:
        tensors = list(tensors_in(result.result()))
        size = size_of(tensors)
        too_large = self.limit is not None and size > self.limit
        if too_large or any(tensor.requires_grad for tensor in tensors):
            return  # a graph allows one backward pass, so it is not shared
        with self._lock:
            self._kept[key] = (result, size)
            self._bytes += size
            while len(self._kept) > self.capacity or self._bytes > (self.limit or self._bytes):
                _, (_, dropped) = self._kept.popitem(last=False)
                self._bytes -= dropped
                self._evictions += 1


CachedTextEncoder = CachedConditioner  # the old name


def clone(value: Any) -> Any:
    """Copy `value` with every tensor in it; parts without tensors are shared."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: clone(item) for key, item in value.items()}
    if isinstance(value, tuple | list) and next(tensors_in(value), None) is not None:
        return type(value)(clone(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if next(tensors_in(value), None) is None:
            return value
        made = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(made, field.name, clone(getattr(value, field.name)))
        return made
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors inside dataclasses, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors_in(getattr(value, field.name))


_HOW = {field.name for field in dataclasses.fields(Options)}


def _key_of_call(conditioner: TextConditioner, given: Mapping[str, Any]) -> str | None:
    """SHA-256 of all arguments and of the conditioner's identity; None if one has no JSON form."""
    options = {name: value for name, value in given.items() if name in _HOW}
    try:
        whole = {"given": given, "identity": conditioner.identity(**options)}
        return hashlib.sha256(canonical_json(whole)).hexdigest()
    except TypeError:
        return None
