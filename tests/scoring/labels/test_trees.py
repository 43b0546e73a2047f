"""Trees of labels add up probabilities, and answer as deep as they are sure."""

import pytest
import torch

from ecliptic.errors import ConfigError, ShapeError
from ecliptic.scoring import STOP, make_tree, read_tree

TREE = read_tree(
    {
        "animal": {"pet": ["cat", "dog"], "horse": None},
        "vehicle": ["car", "bus"],
        "house": None,
    }
)


def test_a_tree_has_its_leaves_and_groups_in_order() -> None:
    assert TREE.leaves == ("cat", "dog", "horse", "car", "bus", "house")
    assert TREE.groups == ("animal", "pet", "vehicle")
    paths = [("animal", "pet", "cat"), ("animal", "pet", "dog"), ("animal", "horse")]
    assert make_tree([*paths, ("vehicle", "car"), ("vehicle", "bus"), ("house",)]) == TREE


def test_probabilities_add_up_from_the_leaves() -> None:
    p = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.05, 0.2]]).double()
    wanted = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.05, 0.2, 0.6, 0.3, 0.2]]).double()
    torch.testing.assert_close(TREE.node_probabilities(p), wanted)


def test_the_answer_is_the_deepest_node_that_is_sure_enough() -> None:
    rows = {
        "cat": [0.9, 0.05, 0, 0, 0, 0.05],
        "pet": [0.5, 0.4, 0, 0, 0.1, 0],
        "animal": [0.4, 0.2, 0.3, 0.1, 0, 0],
        "house": [0, 0, 0, 0.1, 0, 0.9],
    }
    p = torch.tensor(list(rows.values()))
    assert [TREE.names[node] for node in TREE.deepest(p, 0.8)] == list(rows)
    unsure = torch.tensor([[0.2, 0.1, 0.1, 0.3, 0.3, 0], [torch.nan] * 6])
    assert TREE.deepest(unsure, 0.8).tolist() == [STOP, STOP]
    for sure in (0.5, 1.1, float("nan")):
        with pytest.raises(ConfigError, match=r"more than 0\.5 and at most 1"):
            TREE.deepest(p, sure)


def test_trees_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="'a' is a label and a group"):
        read_tree({"a": ["b"], "c": ["a"]})
    with pytest.raises(ConfigError, match="label 'b' stands in two places"):
        read_tree({"a": ["b", "b"]})
    with pytest.raises(ConfigError, match="group 'a' stands in two places"):
        make_tree([("x", "a", "b"), ("y", "a", "c")])
    with pytest.raises(ConfigError, match="needs at least one label"):
        read_tree({})
    for empty in ([], "cat", 3):
        with pytest.raises(ConfigError, match="group 'a' must have a list of labels"):
            read_tree({"a": empty})
    with pytest.raises(ConfigError, match="names that are not empty"):
        make_tree([("a", " ")])
    with pytest.raises(ShapeError, match="6 leaves"):
        TREE.node_probabilities(torch.ones(1, 2))
