"""Names of columns of other tools become names that a store allows, each its own."""

import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.index.columns import check_column_types
from ecliptic.index.formats.table_columns import allowed_name


@pytest.mark.parametrize(
    ("name", "taken", "new"),
    [
        ("caption", [], "caption"),
        ("NSFW", [], "nsfw"),
        ("Größe (px)", [], "gr__e__px_"),
        ("2020", [], "column_2020"),
        ("猫", [], "column"),
        ("_key", [], "key"),
        ("vector", [], "vector_"),
        ("URL", ["url"], "url_2"),
        ("URL", ["url", "url_2"], "url_3"),
    ],
)
def test_names_stay_near_to_what_they_were(name: str, taken: list[str], new: str) -> None:
    assert allowed_name(name, taken) == new


@settings(max_examples=40)
@given(st.lists(st.text(max_size=80), max_size=8))
def test_any_names_become_allowed_ones_without_twins(names: list[str]) -> None:
    found: list[str] = []
    for name in names:
        found.append(allowed_name(name, found))
    assert len({*found}) == len(names)
    check_column_types(dict.fromkeys(found, "string"))
