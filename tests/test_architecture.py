"""Architectures and network descriptions as values: JSON, timm strings, and what is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singlepath.architecture import Architecture, BlockSpec, NetworkSpec, format_blocks, parse_blocks
from singlepath.errors import UserError

blocks = st.builds(
    BlockSpec,
    kind=st.just("ir"),
    stage=st.just(0),
    in_channels=st.sampled_from([8, 16, 24]),
    out_channels=st.sampled_from([8, 16, 24]),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    side=st.sampled_from([7, 32]),
    expansion=st.sampled_from([1.0, 2.5, 3.0, 6.0]),
    se=st.sampled_from([0.0, 0.25, 0.5]),
    activation=st.sampled_from(["relu", "hard_swish"]),
)


@given(st.text(max_size=20), st.lists(st.text(max_size=12), max_size=8))
def test_json_round_trip(space: str, choices: list[str]) -> None:
    architecture = Architecture(space, tuple(choices))
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert hash(again) == hash(architecture)


def test_an_architecture_is_frozen() -> None:
    architecture = Architecture("mobile", ("skip",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        architecture.space = "macro"  # type: ignore[misc]
    assert len({architecture, Architecture("mobile", ["skip"])}) == 1  # type: ignore[arg-type]


def test_diff_names_the_layers() -> None:
    a, b = Architecture("s", ("k3_e3", "skip", "k5_e6")), Architecture("s", ("k3_e3", "k3_e6", "skip"))
    assert a.diff(b) == [(1, "skip", "k3_e6"), (2, "k5_e6", "skip")]
    assert a.diff(a) == []


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "[]", "3", "null", '{"space": "mobile"}', '{"choices": ["skip"]}',
        '{"space": "mobile", "choices": "skip"}', '{"space": "mobile", "choices": [1, 2]}',
        '{"format": "other/9", "space": "mobile", "choices": ["skip"]}',
    ],
)  # fmt: skip
def test_wrong_json_is_a_user_error_of_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        Architecture.from_json(text)
    assert "\n" not in str(caught.value)
    assert "allowed" in str(caught.value)


@given(st.lists(blocks, min_size=1, max_size=5))
def test_block_tokens_read_back(given_blocks: list[BlockSpec]) -> None:
    for block in given_blocks:
        ((read,),) = parse_blocks(block.token())
        assert (read["kind"], read["kernel"], read["stride"]) == ("ir", block.kernel, block.stride)
        assert (read["expansion"], read["channels"]) == (block.expansion, block.out_channels)
        assert (read["se"], read["activation"]) == (block.se, block.activation)
    spec = NetworkSpec(tuple(given_blocks), 32, 3, 16, 1, 64, 10)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


def test_a_line_of_blocks_is_read_with_repeats_skips_and_stages() -> None:
    stages = parse_blocks("ir_r2_k5_s2_e6_c40, skip ir_r1_k3_s1_e3_c40 | ir_r1_k3_s1_e3_c40")
    assert [[b["kind"] for b in stage] for stage in stages] == [["ir", "ir", "skip", "ir"], ["ir"]]
    assert [b["stride"] for b in stages[0]] == [2, 1, 1, 1]  # the stride belongs to the first repeat
    assert len(parse_blocks("ir_r1_k3_s1_e3_c24 ir_r1_k3_s1_e3_c40")) == 2  # channels change: another stage
    assert format_blocks([["a", "b"], ["c"]]) == "a b | c"


@pytest.mark.parametrize("token", ["cn_r1_k3_s1_c8", "ir_r0_k3_s1_e3_c8", "ir_r99_k3", "ir_q3", "k3_e3", "ir_k"])
def test_what_is_no_block_string_is_named(token: str) -> None:
    with pytest.raises(UserError, match=token):
        parse_blocks(token)


def test_timm_strings_merge_equal_neighbours() -> None:
    first = BlockSpec("ir", 1, 16, 24, 3, 2, 32, 3.0)
    rest = BlockSpec("ir", 1, 24, 24, 3, 1, 16, 3.0, residual=True)
    spec = NetworkSpec((first, rest, rest), 32, 3, 16, 1, 64, 10)
    assert spec.timm == [["ir_r3_k3_s2_e3_c24"]]
    assert dataclasses.replace(rest, residual=False).token() == "ir_r1_k3_s1_e3_c24_noskip"
