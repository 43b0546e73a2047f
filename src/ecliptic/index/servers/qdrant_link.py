"""`QdrantLink`: a client of Qdrant with one collection, and what went wrong in our words."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from ecliptic.errors import ConfigError, StorageError
from ecliptic.index.servers.address import ServerAddress
from ecliptic.index.servers.qdrant_driver import QdrantClient

_SECONDS = 60  # that a request may take
_PORT = 6333
_SHOWN = 300  # characters of a server's answer
API_KEY = "QDRANT_API_KEY"


class QdrantLink:
    """A client, the name of the collection, and the address for messages."""

    def __init__(self, client: QdrantClient, collection: str, where: str) -> None:
        self.client, self.collection, self.where = client, collection, where

    def __repr__(self) -> str:
        return f"QdrantLink({self.where!r})"

    @contextmanager
    def told(self, stage: str = "the answer is not complete") -> Iterator[None]:
        """Errors of the client become a StorageError.

        Args:
            stage: what became of the call.
        """
        try:
            yield
        except (ApiException, QdrantException, httpx.HTTPError) as error:
            raise StorageError(_explain(error, self.where, stage)) from error


def connect(address: ServerAddress, environment: Mapping[str, str] | None = None) -> QdrantClient:
    """A client; it connects at its first request.

    Args:
        address: of the server.
        environment: has the key of the server, `QDRANT_API_KEY`; None: that of the process.

    Raises:
        ConfigError: the key has characters that no key has.
    """
    given = os.environ if environment is None else environment
    key = given.get(API_KEY, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{API_KEY} has characters that no key has; set it again.")
    options: dict[str, Any] = {"check_compatibility": False, "timeout": _SECONDS}
    return QdrantClient(
        host=address.host,
        port=address.port or _PORT,
        https=address.scheme.endswith("https"),
        api_key=key or None,
        **options,
    )


def _explain(error: Exception, where: str, stage: str) -> str:
    if isinstance(error, UnexpectedResponse):
        said = (error.content or b"").decode(errors="replace")[:_SHOWN]
        if error.status_code in (401, 403):
            return f"{where} refuses this key or its rights; {stage}. Set {API_KEY}."
        if error.status_code == 404:
            return f"{where} is gone ({said}); {stage}. Make it again, or look at the name."
        return f"{where} could not do it ({error.status_code}: {said}); {stage}."
    reason = str(getattr(error, "source", error)).strip().split("\n")[0] or type(error).__name__
    return (
        f"no connection to {where}, or it was lost ({reason}); {stage}. Look whether the server "
        "runs and the address is right, and try again."
    )
