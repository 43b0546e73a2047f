"""Limits on single answers of a hub: refusals, redirects, compressed answers, long waits.

The client reads the whole body of every refusal and redirect, unpacks what an answer calls
compressed, and waits as long as it is told. Here hooks of its HTTP client see each answer first.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ecliptic.errors import DownloadError

REFUSAL = 64 << 10  # bytes that are read of a refusal's body, so that its connection can be kept
_WAIT = re.compile(r";\s*t\s*=\s*(\d+)")  # seconds, draft-ietf-httpapi-ratelimit-headers-09


@contextlib.contextmanager
def limit_answers(patience: float) -> Iterator[None]:
    """Check the answers to this thread's requests within the block, also of later clients.

    Args:
        patience: seconds that a hub may tell the client to wait before it asks again.

    Raises:
        DownloadError: the hub asks to wait longer, or compresses in a way nobody asked for.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils import _http  # the client's factory can be set, but not read

    make, thread = _http._GLOBAL_CLIENT_FACTORY, threading.get_ident()
    hooked: list[Any] = []

    def ask(request: Any) -> None:
        if threading.get_ident() == thread:
            request.headers["accept-encoding"] = "identity"

    def check(answer: Any) -> None:
        if threading.get_ident() == thread:
            _check(answer, patience)

    def hook(client: Any) -> Any:
        if client not in hooked:
            hooked.append(client)
            client.event_hooks["request"].append(ask)
            client.event_hooks["response"].append(check)
        return client

    def make_hooked() -> Any:
        return hook(make())

    _http._GLOBAL_CLIENT_FACTORY = make_hooked
    try:
        hook(get_session())  # one of before
        yield
    finally:
        if _http._GLOBAL_CLIENT_FACTORY is make_hooked:
            _http._GLOBAL_CLIENT_FACTORY = make
        for client in hooked:
            _remove(client.event_hooks["request"], ask)
            _remove(client.event_hooks["response"], check)


def _remove(hooks: list[Callable[[Any], None]], hook: Callable[[Any], None]) -> None:
    with contextlib.suppress(ValueError):  # somebody set other hooks meanwhile
        hooks.remove(hook)


def _check(answer: Any, patience: float) -> None:
    """Refuse an answer that costs too much, and take away the body of a refusal or redirect."""
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if answer.status_code >= 300:
        _drop_body(answer)
        if (wait := _read_wait(answer)) > patience:
            raise DownloadError(
                f"the hub answered with status {answer.status_code} and asks to wait {wait:g} "
                f"seconds; try again then"
            )
    elif coding not in ("identity", "gzip"):  # gzip: 64 KiB at a time, at most a thousandfold
        raise DownloadError(f"the hub compressed its answer as {coding[:40]!r}, unasked")


def _drop_body(answer: Any) -> None:
    """Empty the body: the status and the headers say all that is told of it."""
    stream, size = answer.stream, 0
    for piece in stream:
        size += len(piece)
        if size > REFUSAL:
            break
    stream.close()
    answer.stream = type(answer)(answer.status_code).stream  # an empty one


def _read_wait(answer: Any) -> float:
    """The seconds after which the hub wants to be asked again, 0 if it does not say."""
    after = answer.headers.get("retry-after", "").strip()
    rate = _WAIT.search(answer.headers.get("ratelimit", ""))
    return max(float(after) if after.isdecimal() else 0.0, float(rate[1]) if rate else 0.0)
