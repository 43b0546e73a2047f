"""Faults for tests: seeded damage to the bytes of a file, and writers that are killed at work."""

import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def flip_bytes(data: bytes, seed: int, count: int | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield copies of `data` with one changed byte each, and what was changed.

    Args:
        data: the intact bytes.
        seed: of the places and values.
        count: of copies; None: one for each byte.
    """
    draw = random.Random(seed)
    places = range(len(data)) if count is None else draw.choices(range(len(data)), k=count)
    for place in places:
        old = data[place]
        new = draw.choice([old ^ 1 << draw.randrange(8), draw.randrange(256), 0, 255])
        new = new if new != old else old ^ 1
        yield f"byte {place}: {old} -> {new}", data[:place] + bytes([new]) + data[place + 1 :]


def damage_bytes(data: bytes, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield copies of `data` that are cut, or have bytes inserted, removed, zeroed or swapped."""
    draw = random.Random(seed)
    for _ in range(count):
        start = draw.randrange(len(data) + 1)
        size = min(draw.choice([1, 2, 8, 64, 512, 4096]), len(data) - start)
        end, other = start + size, draw.randrange(len(data) + 1)
        ways = {
            "cut": data[:start],
            "without start": data[start:],
            "inserted": data[:start] + draw.randbytes(size) + data[start:],
            "removed": data[:start] + data[end:],
            "zeroed": data[:start] + bytes(size) + data[end:],
            "random": data[:start] + draw.randbytes(size) + data[end:],
            "repeated": data[:end] + data[start:],
            "moved": data[:start] + data[other : other + size] + data[start + size :],
        }
        way = draw.choice(list(ways))
        if ways[way] != data:
            yield f"{way} at {start}, {size} bytes", ways[way]


def kill_writer(
    script: str, *given: str, rounds: int, seed: int, longest: float = 0.3
) -> Iterator[list[str]]:
    """Run a writer and kill it with SIGKILL at a random moment; yield what it acknowledged.

    Args:
        script: Python source; it prints one line, flushed, when a write is complete.
        *given: arguments of the script; the number of the round follows them.
        rounds: processes to start, one after the other.
        seed: of the moments.
        longest: seconds from the first acknowledgement to the kill.
    """
    draw = random.Random(seed)
    for number in range(rounds):
        command = [sys.executable, "-c", script, *given, str(number)]
        child = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        if not first:
            raise AssertionError(f"the writer wrote nothing: {child.communicate()[1][-2000:]}")
        killer = threading.Timer(draw.uniform(0, longest), child.kill)
        killer.start()
        rest, errors = child.communicate()
        killer.join()
        assert child.returncode in (0, -9), errors[-2000:]
        lines = (first + rest).split("\n")
        yield [line for line in lines[:-1] if line]  # the last one may be half written
