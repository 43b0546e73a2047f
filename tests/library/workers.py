"""Processes that index a folder, one for each line of work, and can be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Each worker begins as a copy of this process, which has the model, but has not imported Lance.
NURSERY = """
import os, signal, sys
import torch
torch.set_num_threads(1)
import ecliptic
from ecliptic.library import Library
from ecliptic.library.filling import adding
from ecliptic.library.layout import ABOUT

clip = ecliptic.load(sys.argv[1])
folder, photos = sys.argv[2:]
adding.MOST_ROWS, adding.LONGEST = 8, 60.0

def say(line):
    os.write(1, line.encode() + b"\\n")  # in one piece, also beside another worker

def work(what):
    made = os.path.exists(os.path.join(folder, ABOUT))
    library = Library.open(folder, clip) if made else Library.create(folder, clip)
    while True:
        summary = library.add(photos, batch_size=4, prune=what == "prune")
        if what == "compact":
            library.compact()
        else:
            say(f"summary {summary.added} {summary.unchanged} {summary.interrupted}")
            return

for line in sys.stdin:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work(line.strip())
        os._exit(0)
    say(f"child {child}")
    if line.strip() != "two":
        say(f"ended {os.waitpid(child, 0)[1]}")
"""


class Nursery:
    """The process that starts workers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def start(self, what: str) -> int:
        """Start a worker; its process id.

        Args:
            what: "add"; "prune" to add and remove what is gone; "compact" to add and compact until
                it is killed; "two" to add beside another one.
        """
        print(what, file=self.process.stdin, flush=True)
        return int(self.read("child")[1])

    def read(self, word: str) -> list[str]:
        """The words of the next line that begins with `word`."""
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.startswith(word):
                return line.split()
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read()[-2000:])


@contextmanager
def nursery(model: Path, folder: Path, photos: Path) -> Iterator[Nursery]:
    """Start the process that starts workers; it ends, and they, at the end of the block."""
    command = [sys.executable, "-c", NURSERY, str(model), str(folder), str(photos)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )
    with process:
        try:
            yield Nursery(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its workers too
