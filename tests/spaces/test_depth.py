"""Deeper spaces: what a repeat may be, and networks carried over to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singlepath.architecture import Architecture
from singlepath.costs import count_costs
from singlepath.errors import UserError
from singlepath.spaces import Space, make
from singlepath.spaces.depth import at_depth, carried, depth_of

SMALL = make("mobile-small(width=0.5, classes=7)")
RICH = make("mobile-small(input_size=16, kernels=(3, 5, 7), se=(0.0, 0.25))")


def test_depth_one_is_the_space_itself() -> None:
    for name in ("mobile", "mobile-small", "macro"):
        assert make(f"{name}(depth=1)") == make(name) and make(f"{name}(depth=1)").id == name
    assert at_depth(SMALL, 1) == SMALL and depth_of(SMALL.id) == 1
    deep = at_depth(SMALL, 3)
    assert deep.id == "mobile-small(width=0.5, classes=7, depth=3)" and depth_of(deep.id) == 3
    assert make(deep.id) == deep and at_depth(deep, 1) == SMALL


@pytest.mark.parametrize("space", [SMALL, RICH, make("mobile(input_size=64)"), make("macro")], ids=lambda s: s.name)
def test_repeats_keep_the_stages_width_and_size(space: Space) -> None:
    deep = at_depth(space, 2)
    for stage in {layer.stage for layer in space.searchable}:
        own, layers = ([x for x in s.layers if x.stage == stage] for s in (space, deep))
        assert len(layers) == 2 * len(own)
        assert (layers[0].stride, layers[0].in_channels) == (own[0].stride, own[0].in_channels)
        assert {layer.out_channels for layer in layers} == {own[0].out_channels}
        for layer in layers[1:]:
            assert layer.same_shape and layer.side == -(-own[0].side // own[0].stride) and layer.skippable
        assert layers[0].skippable == own[0].skippable, "the first of a stage is as it was"
    fixed = [layer for layer in space.layers if not layer.searchable]
    assert [x for x in deep.layers if not x.searchable and x.kind == "ds"] == [x for x in fixed if x.kind == "ds"]


def tokens(space: Space, architecture: Architecture) -> list[list[str]]:
    return [part.split() for part in space.string(architecture).split(" | ")]


def test_every_choice_is_repeated() -> None:
    own = SMALL.parse(
        "ds_r1_k3_s1_c8_noskip | ir_r1_k5_s2_e6_c16 ir_r1_k3_s1_e3_c16 skip | ir_r1_k3_s2_e3_c24 skip skip"
        " | ir_r1_k3_s2_e6_c40 ir_r1_k5_s1_e3_c40 ir_r1_k3_s1_e6_c40"
    )
    deep = at_depth(SMALL, 2)
    assert tokens(deep, carried(own, SMALL, deep)) == [
        ["ds_r1_k3_s1_c8_noskip"],
        ["ir_r1_k5_s2_e6_c16", "ir_r1_k5_s1_e6_c16", "ir_r1_k3_s1_e3_c16", "ir_r1_k3_s1_e3_c16", "skip", "skip"],
        ["ir_r1_k3_s2_e3_c24", "ir_r1_k3_s1_e3_c24", "skip", "skip", "skip", "skip"],
        ["ir_r1_k3_s2_e6_c40", "ir_r1_k3_s1_e6_c40", "ir_r1_k5_s1_e3_c40", "ir_r1_k5_s1_e3_c40",
         "ir_r1_k3_s1_e6_c40", "ir_r1_k3_s1_e6_c40"],
    ]  # fmt: skip


def test_a_skipped_reduction_is_repeated_by_nothing() -> None:
    macro, deep = make("macro"), at_depth(make("macro"), 2)
    found = tokens(deep, carried(macro.parse("01201201"), macro, deep))
    assert found[0] == ["id_r1_k1_s2_c64", "ir_r1_k3_s1_e3_c64", "ir_r1_k3_s1_e3_c64", "skip"]
    assert found[1][:2] == ["ir_r1_k5_s2_e6_c128", "ir_r1_k5_s1_e6_c128"] and found[1].count("skip") == 2


def test_a_repeat_takes_the_largest_kernel_that_it_has() -> None:
    own = RICH.parse("ds_r1_k3_s1_c16_noskip | ir_r1_k3_s2_e3_c24 | ir_r1_k3_s2_e3_c40 | ir_r1_k7_s2_e6_c80_se0.25")
    deep = at_depth(RICH, 2)
    assert tokens(deep, carried(own, RICH, deep))[3][:2] == ["ir_r1_k7_s2_e6_c80_se0.25", "ir_r1_k3_s1_e6_c80_se0.25"]


@given(st.sampled_from(["mobile-small", "mobile(input_size=32)", "macro", "mobile-small(depth=2)"]),
       st.integers(2, 3), st.integers(0, 2**32 - 1))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_what_is_carried_over_is_a_deeper_network(name: str, times: int, seed: int) -> None:
    space = make(name)
    deep = at_depth(space, times * depth_of(name))
    rng = np.random.default_rng(seed)
    one, other = (space.canonical(space.sample(rng)) for _ in range(2))
    found = carried(one, space, deep)
    assert deep.canonical(found) == found and deep.parse(deep.string(found)) == found
    kept = len(space.network(one).blocks)
    assert len(deep.network(found).blocks) <= times * kept
    costs, deeper = count_costs(space, "macs"), count_costs(deep, "macs")
    assert deeper.of(deep.indices(found)) >= costs.of(space.indices(one))
    assert (found == carried(other, space, deep)) == (one == other), "distinct networks stay distinct"


def test_spaces_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"6 layers in .* and 9"):
        carried(at_depth(SMALL, 2).largest(), at_depth(SMALL, 2), at_depth(SMALL, 3))
    with pytest.raises(UserError, match="1 to 8"):
        at_depth(SMALL, 9)
