"""Addresses of servers are read once, and printed without what is secret."""

import pytest

from ecliptic.errors import ConfigError
from ecliptic.index.servers.address import read_address

FORM = "db://user@host:port/path?table=photos"


def test_an_address_is_read_and_printed_without_the_password() -> None:
    url = "db://an%40na:p%2Fw@[::1]:5432/my%20data?table=photos&host=%2Ftmp"
    found = read_address(url, ("db",), FORM, ("table", "host"))
    assert (found.user, found.password, found.host, found.port) == ("an@na", "p/w", "::1", 5432)
    assert (found.path, found.options) == ("my data", {"table": "photos", "host": "/tmp"})
    assert str(found) == "db://an%40na@[::1]:5432/my%20data?table=photos&host=/tmp"
    assert read_address(str(found), ("db",), FORM, ("table", "host")).path == "my data"


def test_the_shortest_address() -> None:
    found = read_address("db://host/x", ("db",), FORM)
    assert (found.user, found.password, found.port) == ("", "", None)
    assert str(found) == "db://host/x"


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("dc://host/x", "write db://"),
        ("db://host:none/x", "write db://"),
        ("db://host/x?=", "write db://|no option"),
        ("db://host/x?tabel=y", "did you mean 'table'"),
        ("db://host/x?colour=y", "it can have host, table"),
        ("db://host/x?table=y&table=z", "twice"),
        ("db://ho\x1bst/x", "write db://"),
    ],
)
def test_other_addresses_are_refused_with_the_right_form(url: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        read_address(url, ("db",), FORM, ("table", "host"))
