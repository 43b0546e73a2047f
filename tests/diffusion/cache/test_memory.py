"""`CachedConditioner`: limited size, copies, one computation for equal requests."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.diffusion.cache.memory import CachedConditioner, tensors_in
from ecliptic.diffusion.cache.write import Caption, write_cache
from ecliptic.errors import ConfigError, TextError
from tests.diffusion.cache.counted import IDENTITY, Changing, Counted, Made


def test_a_second_call_computes_nothing_and_gives_the_same() -> None:
    source = Counted()
    cached: CachedConditioner[Made] = CachedConditioner(source)
    first, second = cached("a cat", "a dog"), cached("a cat", negative="a dog")
    assert source.asked == ["a cat", "a dog"]
    assert torch.equal(first.tokens, second.tokens)  # type: ignore[arg-type]
    assert torch.equal(first.negative.tokens, second.negative.tokens)  # type: ignore
    assert first.ledger == second.ledger
    assert (cached.statistics.hits, cached.statistics.misses) == (1, 1)


def test_results_are_the_callers_own() -> None:
    cached: CachedConditioner[Made] = CachedConditioner(Counted())
    wanted = Counted()("a cat", "a dog")
    for _ in range(3):
        made = cached("a cat", "a dog")
        for found, expected in zip(tensors_in(made), tensors_in(wanted), strict=True):
            assert torch.equal(found, expected)
            found.zero_()


def test_what_was_used_longest_ago_goes_first() -> None:
    source = Counted()
    cached: CachedConditioner[Made] = CachedConditioner(source, capacity=2)
    for prompt in ("a", "b", "a", "c", "a", "b"):
        cached(prompt)
    assert source.asked == ["a", "b", "c", "b"]
    assert cached.statistics.evictions == 2
    assert cached.statistics.entries == 2


def test_bytes_are_bounded_and_what_is_too_large_is_not_kept() -> None:
    size = sum(t.nbytes for t in tensors_in(Counted()("a")))
    cached: CachedConditioner[Made] = CachedConditioner(Counted(), limit=2 * size)
    for prompt in ("a", "b", "c"):
        cached(prompt)
        assert cached.statistics.bytes <= 2 * size
    assert cached.statistics.entries == 2
    cached("one two three four five six " * 2, "more words than there is room for")
    assert cached.statistics.entries == 2
    cached.clear()
    assert (cached.statistics.entries, cached.statistics.bytes) == (0, 0)


@pytest.mark.parametrize("change", [{"loras": ["sha"]}, {"encoders": [{"weights": "ab"}]}])
def test_a_change_of_the_conditioner_misses(change: dict[str, Any]) -> None:
    source = Counted()
    cached: CachedConditioner[Made] = CachedConditioner(source)
    before = cached("a cat")
    source.told.update(change)
    after = cached("a cat")
    assert source.asked == ["a cat", "a cat"]
    assert not torch.equal(before.tokens, after.tokens)  # type: ignore[arg-type]
    source.told = dict(IDENTITY)
    assert torch.equal(cached("a cat").tokens, before.tokens)  # type: ignore[arg-type]
    assert len(source.asked) == 2


def test_a_result_of_a_conditioner_that_changed_meanwhile_is_not_kept() -> None:
    for ask in (lambda c: c("late"), lambda c: c.each(["late"])[0]):
        source = Changing()
        cached: CachedConditioner[Made] = CachedConditioner(source)
        made = ask(cached)
        assert torch.equal(made.tokens, source("late").tokens)  # type: ignore[arg-type]
        assert cached.statistics.entries == 0
        assert torch.equal(ask(cached).tokens, made.tokens)
        source.told, source.change_during = dict(IDENTITY), lambda _: None  # type: ignore
        assert torch.equal(ask(cached).tokens, Counted()("late").tokens)  # type: ignore[arg-type]


def test_options_and_tensors_are_part_of_the_key() -> None:
    source = Counted()
    cached: CachedConditioner[Made] = CachedConditioner(source)
    for options in ({}, {"clip_skip": 1}, {"t5": torch.ones(2)}, {"t5": torch.zeros(2)}, {}):
        cached("a", **options)
    assert len(source.asked) == 4
    cached("a", images=object())
    cached("a", images=object())
    assert len(source.asked) == 6  # an argument without JSON form is never cached


def test_equal_requests_at_one_time_compute_once() -> None:
    class Slow(Counted):
        def each(self, prompts: Sequence[str], **options: Any) -> list[Made]:
            time.sleep(0.05)
            return super().each(prompts, **options)

    source = Slow()
    cached: CachedConditioner[Made] = CachedConditioner(source)
    gate = threading.Barrier(6)

    def ask(_: int) -> Made:
        gate.wait()
        made = cached("a cat")
        made.tokens.add_(1)  # type: ignore[union-attr]
        return made

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(ask, range(6)))
    assert source.asked == ["a cat"]
    wanted = Counted()("a cat").tokens + 1  # type: ignore[operator]
    assert all(torch.equal(m.tokens, wanted) for m in made)  # type: ignore[arg-type]
    assert cached.statistics.hits == 5


def test_many_threads_and_little_room_give_right_results() -> None:
    cached: CachedConditioner[Made] = CachedConditioner(Counted(), capacity=3)
    wanted = {str(n): Counted()(str(n)).tokens for n in range(8)}

    def ask(n: int) -> bool:
        name = str(n * 7919 % 8)
        return torch.equal(cached(name).tokens, wanted[name])  # type: ignore[arg-type]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(200)))
    assert cached.statistics.entries == 3


def test_an_error_reaches_everybody_and_is_not_remembered() -> None:
    cached: CachedConditioner[Made] = CachedConditioner(Counted())
    for _ in range(2):
        with pytest.raises(TextError, match="bad at character 0"):
            cached("bad")
    assert cached.statistics.entries == 0
    assert cached("good").tokens is not None


def test_gradients_are_never_shared() -> None:
    class Trained(Counted):
        def __call__(self, prompt: str, negative: str | None = None, **options: Any) -> Made:
            made = super().__call__(prompt, negative, **options)
            return Made(made.tokens.requires_grad_() * 2, None)  # type: ignore[union-attr]

    cached: CachedConditioner[Made] = CachedConditioner(Trained())
    for _ in range(2):
        cached("a", grad=True).tokens.sum().backward()  # type: ignore[union-attr]
    assert cached.statistics.entries == 0


def test_a_folder_answers_for_single_prompts(tmp_path: Path) -> None:
    write_cache(Counted(), [Caption("a.png", "a cat")], tmp_path)
    source = Counted()
    cached: CachedConditioner[Made] = CachedConditioner(source, folder=tmp_path)
    wanted = Counted().each(["a cat", "a dog"])
    for _ in range(2):
        for found, expected in zip(cached.each(["a cat", "a dog"]), wanted, strict=True):
            assert torch.equal(found.tokens, expected.tokens)  # type: ignore[arg-type]
    assert source.asked == ["a dog"]


def test_no_room_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be at least 1, got capacity 0 and limit None"):
        CachedConditioner(Counted(), capacity=0)
