"""A conditioner of a few random numbers that counts its work, for the tests of caches."""

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.write import CacheReport, Caption, write_cache
from ecliptic.errors import TextError

IDENTITY: dict[str, Any] = {
    "family": "sdxl",
    "encoders": [{"weights": "aa", "tokenizer": {"pad": 0}, "layer": -2, "norm": False}],
    "dialect": "plain",
    "emphasis": "ignore",
    "layout": "truncate",
    "clip_skip": None,
    "compat": "diffusers",
    "chunks": 1,
    "loras": [],
    "inversions": {},
    "dtype": "fp32",
}


@dataclass(frozen=True)
class Words:
    """A ledger of dropped words only."""

    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Made:
    """The result of the conditioner."""

    tokens: Tensor | None
    pooled: Tensor | None
    mask: Tensor | None = None
    negative: "Made | None" = None
    ledger: Words = Words()
    alternatives: tuple[Any, ...] = ()


@dataclass
class Counted:
    """Numbers that depend on prompt and identity alone; "bad" prompts are refused."""

    told: dict[str, Any] = field(default_factory=lambda: dict(IDENTITY))
    asked: list[str] = field(default_factory=list)  # every prompt that was computed
    lock: Any = field(default_factory=threading.Lock)
    delay: float = 0.0  # seconds for each prompt
    log: Path | None = None  # gets a byte for each prompt, also when the process is killed

    def identity(self, **options: Any) -> dict[str, Any]:
        """All that determines the numbers, except the prompt."""
        return {**self.told, **options}

    def each(self, prompts: Sequence[str], **options: Any) -> list[Made]:
        """One result per prompt, as long as its words."""
        if any("bad" in prompt for prompt in prompts):
            raise TextError("a prompt is bad at character 0; write a good one.")
        time.sleep(self.delay * len(prompts))
        self.change_during(prompts)
        with self.lock:
            self.asked += prompts
        if self.log is not None:
            with self.log.open("ab", buffering=0) as file:
                file.write(b"." * len(prompts))
        return [self._make(prompt, options) for prompt in prompts]

    def __call__(self, prompt: str, negative: str | None = None, **options: Any) -> Made:
        """The same with a negative."""
        made = self.each([prompt], **options)[0]
        other = None if negative is None else self.each([negative], **options)[0]
        return Made(made.tokens, made.pooled, made.mask, other, made.ledger)

    def change_during(self, prompts: Sequence[str]) -> None:
        """What another thread does to the conditioner while it encodes; nothing here."""

    def _make(self, prompt: str, options: dict[str, Any]) -> Made:
        known = f"{prompt} {sorted(self.identity(**options).items(), key=str)}"
        seed = int.from_bytes(hashlib.sha256(known.encode()).digest()[:7], "big")
        generator = torch.Generator().manual_seed(seed)
        length = 2 + min(len(prompt.split()), 6)
        mask = torch.ones(1, length, dtype=torch.bool) if "masked" in prompt else None
        tokens = torch.randn(1, length, 12, generator=generator)
        tokens = tokens * 1e6 if "large" in prompt else tokens
        pooled = torch.randn(1, 8, generator=generator)
        rows = Words(tuple(prompt.split()[6:]))
        return Made(tokens, pooled, mask, None, rows, (1, 2) if " AND " in prompt else ())


@dataclass
class Changing(Counted):
    """Gets a LoRA just before it encodes a prompt that says "late", for the first time."""

    def change_during(self, prompts: Sequence[str]) -> None:
        """Merge it."""
        if any("late" in prompt for prompt in prompts):
            self.told["loras"] = ["sha"]


PROMPTS = [f"an image of thing {number} masked" for number in range(9)]
SMALL = 2000  # bytes: about four prompts a shard


def captions(prompts: list[str] = PROMPTS) -> list[Caption]:
    return [Caption(f"{number}.png", prompt) for number, prompt in enumerate(prompts)]


def fill(folder: Path, source: Counted | None = None, **more: Any) -> CacheReport:
    given = {"batch_size": 4, "shard_size": SMALL, **more}
    return write_cache(source or Counted(), captions(), folder, **given)


def same(cache: ConditionCache, name: str, made: Any) -> None:
    found = cache.load(name)
    for part in ("tokens", "pooled", "mask"):
        stored, wanted = getattr(found, part), getattr(made, part)
        assert (stored is None) == (wanted is None)
        assert stored is None or (torch.equal(stored, wanted) and stored.dtype == wanted.dtype)


def first_shard(folder: Path) -> Path:
    return min(folder.glob("cond-*.safetensors"))
