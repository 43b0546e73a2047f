"""Limits on what a hub may send, and how slowly; all of them are constants here.

`huggingface_hub` writes whatever comes and waits as long as some byte comes now and then. Here its
progress bar counts the bytes, and a thread closes its connections when they come too slowly. Its
second transport, Xet, is switched off meanwhile, because nothing could count and stop it; so is its
telemetry, which asks the hub for a list of its own. `answers.py` limits what it reads of refusals.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from ecliptic.checkpoints.hub.answers import limit_answers
from ecliptic.checkpoints.hub.endpoint import redact
from ecliptic.errors import DownloadError, printable

STALL = 60.0  # seconds in which at least SLOWEST bytes must come, or the whole answer
SLOWEST = 256 << 10  # bytes
LISTING = 8 << 20  # bytes of the list of a repository's files; 10,000 files take about 3 MB
FILES = 10_000  # in a repository
UNDECLARED = 8 << 30  # bytes of a file whose size the hub does not declare
LARGEST = 100 << 30  # bytes of all chosen files of a repository together
_PIECE = 64 << 10  # bytes that the client reads at a time
_ONE = threading.RLock()  # the client's settings are those of the process


class Transfer:
    """The bytes of one answer so far."""

    def __init__(self, name: str, declared: int | None, limit: int) -> None:
        self.name = name
        self.failure = ""  # why it was ended
        self._declared, self._limit = declared, limit
        self._done = self._counted = 0  # bytes; at the last progress
        self._since = time.monotonic()  # seconds, of the last progress

    def count(self, size: int) -> None:
        """Count `size` bytes, before they are written; DownloadError if they are too many."""
        self._done += size
        if self._done - self._counted >= SLOWEST:
            self._counted, self._since = self._done, time.monotonic()
        if self._done > self._limit:
            self.fail(
                f"the hub sent more than {self._limit} bytes, without having declared a size"
                if self._declared is None
                else f"the hub sent more than the {self._declared} bytes that it declared"
            )
        if self.failure:
            raise DownloadError(self.failure)

    def fail(self, reason: str) -> None:
        """Note why the transfer ends; the first reason stays."""
        self.failure = self.failure or reason

    def stalled(self) -> bool:
        """Whether the bytes come too slowly."""
        return time.monotonic() - self._since > STALL

    def bar(self) -> type[Any]:
        """A class of progress bars for the client, which count."""
        from huggingface_hub.utils.tqdm import tqdm

        transfer = self

        class CountingBar(tqdm):
            def __init__(self, *given: Any, **options: Any) -> None:
                options["desc"] = printable(transfer.name)[-40:]
                super().__init__(*given, **options)  # type: ignore[no-untyped-call]

            def update(self, n: float | None = 1) -> bool | None:
                transfer.count(int(n or 0))
                return super().update(n)  # type: ignore[no-any-return]

        return CountingBar


@contextlib.contextmanager
def watch(name: str, declared: int | None, limit: int | None = None) -> Iterator[Transfer]:
    """Watch what the client does within the block, in this thread.

    Args:
        name: of the file, for messages and the progress bar.
        declared: its size in bytes; None if the hub does not say.
        limit: in bytes, instead of the declared size or `UNDECLARED`.

    Raises:
        DownloadError: too many bytes came, or too few within `STALL`.
    """
    limit = limit or (UNDECLARED if declared is None else declared)
    transfer, ended = Transfer(name, declared, limit), threading.Event()
    watcher = threading.Thread(target=_break_stalls, args=(transfer, ended), daemon=True)
    with _ONE, _set_client(), limit_answers(STALL), quiet_logs():
        watcher.start()
        try:
            yield transfer
        except Exception as error:
            if transfer.failure:
                raise DownloadError(transfer.failure) from error
            raise
        finally:
            ended.set()
            watcher.join()


def _break_stalls(transfer: Transfer, ended: threading.Event) -> None:
    """Close the connections of the client when `transfer` stalls, and those of its retries."""
    from huggingface_hub import close_session

    while not ended.wait(min(0.5, STALL / 4)):
        if transfer.stalled():
            transfer.fail(f"the hub sent less than {SLOWEST} bytes within {STALL:g} seconds")
        if transfer.failure:
            close_session()


@contextlib.contextmanager
def _set_client() -> Iterator[None]:
    """Let the client read small pieces over HTTP alone; its own settings are restored."""
    from huggingface_hub import constants

    ours = {
        "DOWNLOAD_CHUNK_SIZE": min(constants.DOWNLOAD_CHUNK_SIZE, _PIECE),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,  # else its headers need a request of their own
    }
    before = {name: getattr(constants, name) for name in ours}
    vars(constants).update(ours)
    try:
        yield
    finally:
        vars(constants).update(before)


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep secrets of URLs and control characters out of the client's log within the block."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_CLIENTS)]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(_clean)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_clean)


_CLIENTS = ("huggingface_hub", "http", "urllib3", "requests")


def _clean(record: logging.LogRecord) -> bool:
    """Rewrite a line of the log; it is never dropped."""
    record.msg, record.args = printable(redact(record.getMessage())), ()
    return True
