"""Which networks conditions share."""

from __future__ import annotations

from controlmill.annotators.catalogue import parse_conditions
from controlmill.annotators.plan import files_of, forward_groups


def test_networks_that_two_conditions_need_run_once() -> None:
    groups = [[choice.condition for choice in group.choices] for group in forward_groups(parse_conditions("all"))]
    assert ["hed", "scribble"] in groups
    assert ["depth", "normals"] in groups
    assert len(groups) == 8  # canny alone needs none
    assert sorted(users for users in files_of(parse_conditions("hed,scribble")).values()) == [["hed", "scribble"]]
