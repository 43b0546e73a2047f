"""The address of the hub without the user and password that `HF_ENDPOINT` may hold.

They are sent as a header, so no URL contains them: neither in errors nor in logs.
"""

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ecliptic.errors import DownloadError

# scheme, user and password, host and path, query and fragment (RFC 3986, 3)
_URL = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?(?P<place>[^\s?#'\"]*)"
    r"(?P<rest>[?#][^\s'\"]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Endpoint:
    """A hub, and the headers that it wants."""

    address: str  # without a secret
    headers: dict[str, str] = field(repr=False)


def read_endpoint() -> Endpoint:
    """The hub in the settings of the client.

    Raises:
        DownloadError: `HF_ENDPOINT` is not a URL of http or https.
    """
    from huggingface_hub import constants

    address = redact(constants.ENDPOINT)
    try:
        parts = urlsplit(constants.ENDPOINT)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # not a port
        usable = False
    if not usable:
        raise DownloadError(f"HF_ENDPOINT is {address!r}, but must be like https://host.")
    if parts.username is None:
        return Endpoint(address, {})
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    encoded = base64.b64encode(secret.encode()).decode()
    return Endpoint(address, {"authorization": f"Basic {encoded}"})


def redact(text: str) -> str:
    """`text` without users, passwords, queries and fragments of the URLs in it."""
    return _URL.sub(lambda url: url["scheme"] + url["place"] + "?..." * bool(url["rest"]), text)
