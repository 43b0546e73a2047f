"""`ServerAddress`: where a server is, read from a URL. A password in it is never shown.

A URL that cannot be read is not repeated in the message, because a part of its password could be
in any place then.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ecliptic.errors import ConfigError, did_you_mean

_HOST = re.compile(r"[\w.:%-]*")  # of names, IPv4 and IPv6


@dataclass(frozen=True)
class ServerAddress:
    """A URL of the form scheme://user:password@host:port/path?option=value."""

    scheme: str
    host: str
    port: int | None
    path: str  # without the slash before it
    user: str = ""
    password: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """The address without the password."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        options = "&".join(f"{name}={quote(value)}" for name, value in self.options.items())
        path = quote(self.path)
        return f"{self.scheme}://{user}{host}{port}/{path}{'?' if options else ''}{options}"


def read_address(
    url: str, schemes: Collection[str], form: str, options: Collection[str] = ()
) -> ServerAddress:
    """The parts of `url`.

    Args:
        url: of the server.
        schemes: that are allowed.
        form: of a right URL, for messages.
        options: names that may stand after the question mark.

    Raises:
        ConfigError: it has another form, or an unknown option.
    """
    hint = f"write {form}, and special characters of a name or password as %40 for @ and so on."
    try:
        parts = urlsplit(url)
        port = parts.port
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigError(f"the address of the server cannot be read; {hint}") from None
    after = parts.path + parts.query  # with an @, if a password has a slash
    broken = parts.fragment or parts.netloc.count("@") > 1 or "@" in after
    if parts.scheme not in schemes or broken or not _HOST.fullmatch(parts.hostname or ""):
        raise ConfigError(f"the address of the server cannot be read; {hint}")
    return ServerAddress(
        parts.scheme,
        parts.hostname or "",
        port,
        unquote(parts.path.removeprefix("/")),
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        _check_options(given, options),
    )


def _check_options(given: list[tuple[str, str]], known: Collection[str]) -> dict[str, str]:
    options = dict(given)
    for name in options:
        if name not in known:
            near = did_you_mean(name, known)
            can = near or f"it can have {', '.join(sorted(known)) or 'none'}."
            raise ConfigError(f"the address of the server has no option {name!r}; {can}")
    if len(options) < len(given):
        raise ConfigError("the address of the server gives an option twice; give each once.")
    return options
