"""What follows from a space's declaration: sizes, round trips, moving about, canonical names, messages."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singlepath.architecture import Architecture
from singlepath.errors import UserError
from singlepath.spaces import Space, make

TEXTS = (
    "mobile",
    "mobile(width=0.25, input_size=64)",
    "mobile-small",
    "mobile-small(kernels=(3, 5, 7), se=(0.0, 0.25, 0.5), activation='hard_swish', expansions=(2, 3, 6))",
    "mobile(skip=False, input_size=32)",
    "macro",
    "mobile-small(depth=3)",
)
SPACES = {text: make(text) for text in TEXTS}
spaces = st.sampled_from(TEXTS).map(SPACES.__getitem__)
seeds = st.integers(0, 2**32 - 1)


def draw(space: Space, seed: int) -> Architecture:
    return space.sample(np.random.default_rng(seed))


def test_sizes_are_the_published_ones() -> None:
    assert SPACES["mobile"].size == 4**5 * 5**15 == 31_250_000_000_000
    assert len(SPACES["mobile"].layers) == 22
    assert len(SPACES["mobile"].searchable) == 20
    assert SPACES["mobile-small"].size == 1_000_000
    assert SPACES["macro"].size == 6561


def test_macro_has_3969_networks() -> None:
    macro = SPACES["macro"]
    names = {macro.canonical(a) for a in macro.enumerate()}
    assert len(names) == 3969
    assert len({macro.network(a) for a in macro.enumerate()}) == 3969  # a network has exactly one canonical name


def test_macro_digits_read_the_benchmarks_order() -> None:
    macro = SPACES["macro"]
    assert macro.parse("01201201").choices == ("skip", "k3_e3", "k5_e6") * 2 + ("skip", "k3_e3")


def test_mobile_is_the_papers_table() -> None:
    mobile = SPACES["mobile"]
    stages = {s: [layer for layer in mobile.layers if layer.stage == s] for s in range(7)}
    assert [len(s) for s in stages.values()] == [1, 4, 4, 4, 4, 4, 1]
    assert [s[0].stride for s in stages.values()] == [1, 2, 2, 2, 1, 2, 1]
    assert [s[0].out_channels for s in stages.values()] == [16, 24, 40, 80, 96, 192, 320]
    assert (mobile.stem_channels, mobile.head_channels, mobile.bn_eps) == (32, 1280, 1e-3)
    for number in range(1, 6):  # also stage 4, whose first block has stride 1
        assert [layer.skippable for layer in stages[number]] == [False, True, True, True]


def test_kernels_stop_below_twice_the_side() -> None:
    for layer in make("mobile(input_size=32, kernels=(3, 5, 7))").searchable:
        assert all(k < 2 * layer.side for k in layer.kernels[1:])
    assert make("mobile(input_size=32)").searchable[-1].kernels == (3,)


@given(spaces, seeds)
@settings(max_examples=60, deadline=None)
def test_round_trips(space: Space, seed: int) -> None:
    architecture = draw(space, seed)
    assert space.architecture(space.indices(architecture)) == architecture
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert space.parse(space.string(architecture)) == architecture
    code = space.encode(architecture)
    assert code.dtype == np.float32
    assert code.shape == (space.encoding_size,)
    assert code.sum() == len(space.searchable)
    sizes = [len(layer.options) for layer in space.searchable]
    read = [int(part.argmax()) for part in np.split(code, np.cumsum(sizes)[:-1])]
    assert tuple(read) == space.indices(architecture)


@given(spaces, seeds)
@settings(max_examples=40, deadline=None)
def test_a_networks_own_string_gives_the_same_network(space: Space, seed: int) -> None:
    spec = space.network(draw(space, seed))
    again = space.parse(spec.string())
    assert space.network(again) == spec
    assert space.canonical(again) == again


@given(spaces, seeds, st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_mutate_changes_exactly_as_many_layers(space: Space, seed: int, layers: int) -> None:
    architecture = draw(space, seed)
    other = space.mutate(architecture, np.random.default_rng(seed), layers)
    assert len(architecture.diff(other)) == layers
    assert space.fits(other)
    assert other == space.mutate(architecture, np.random.default_rng(seed), layers)


@given(spaces, seeds)
@settings(max_examples=20, deadline=None)
def test_neighbours_are_all_that_differ_in_one_layer(space: Space, seed: int) -> None:
    architecture = draw(space, seed)
    found = list(space.neighbours(architecture))
    assert len(found) == len(set(found)) == sum(len(layer.options) - 1 for layer in space.searchable)
    assert all(len(architecture.diff(n)) == 1 for n in found)


@given(spaces, seeds)
@settings(max_examples=40, deadline=None)
def test_canonical_is_idempotent_and_keeps_the_network(space: Space, seed: int) -> None:
    architecture = draw(space, seed)
    name = space.canonical(architecture)
    assert space.canonical(name) == name
    assert space.network(name) == space.network(architecture)


def test_sampling_is_uniform_over_options() -> None:
    space, rng = SPACES["mobile-small"], np.random.default_rng(0)
    drawn = [space.sample(rng).choices for _ in range(4000)]
    for i, layer in enumerate(space.searchable):
        counts = Counter(choices[i] for choices in drawn)
        expected = len(drawn) / len(layer.options)
        chi2 = sum((counts[t] - expected) ** 2 / expected for t in layer.tokens)
        assert chi2 < 25, layer.name  # 3 or 4 degrees of freedom: P < 1e-4


def test_largest_and_enumerate() -> None:
    assert set(SPACES["mobile"].largest().choices) == {"k5_e6"}
    first = SPACES["macro"].enumerate()
    assert next(first).choices[-1] == "k3_e3"
    assert next(first).choices == ("k3_e3",) * 7 + ("k5_e6",)


def test_drawing_has_a_line_a_block() -> None:
    space = SPACES["mobile-small"]
    lines = space.draw(space.architecture([4 if layer.skippable else 0 for layer in space.searchable])).splitlines()
    assert len(lines) == len(space.layers)
    assert sum(line.rstrip().endswith("-") for line in lines) == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mobil", ["'mobil'", "mobile"]),
        ("mobile(widht=2)", ["widht", "width"]),
        ("mobile(kernels=(3, 4))", ["3,4", "3,5,7"]),
        ("mobile(kernels=(5, 3))", ["5,3"]),
        ("mobile(kernels=())", ["kernels"]),
        ("mobile(expansions=(0.5, 3))", ["0.5,3", "1 to 8"]),
        ("mobile(se=(2,))", ["se"]),
        ("mobile(activation='gelu')", ["gelu", "hard_swish"]),
        ("mobile-small(width=0.5, se=(0, 0.05, 0.1))", ["se 0.05,0.1", "1,1 channels", "with 8 inputs", "0.25"]),
        ("mobile-small(expansions=(3, 3.02))", ["expansions 3,3.02", "48,48 channels", "type --expansions 3,6"]),
        ("mobile-small(input_size=8)", ["8", "16 to 64"]),
        ("macro(kernels=(3,))", ["kernels"]),
        ("mobile-small(kernels=(3,), expansions=(6,), skip=False)", ["one option", "nothing to search"]),
        ("mobile(depth=0)", ["depth 0", "1 to 8", "type depth=2"]),
        ("macro(depth=1.5)", ["depth 1.5", "whole numbers"]),
        ("mobile-small(depth=9)", ["depth 9"]),
        ("mobile(width=0)", ["width 0", "0.01 to 16", "type width=1.0"]),
        ("mobile-small(width=-1)", ["width -1"]),
        ("macro(width=1e400)", ["width inf"]),
        ("macro(classes=1)", ["classes 1", "2 to", "type classes=10"]),
        ("macro(classes=2.5)", ["classes 2.5", "whole numbers"]),
        ("mobile(in_channels=0)", ["in_channels 0", "type in_channels=3"]),
        ("mobile(__import__('os'))", ["allowed"]),
        ("mobile(width=", ["allowed"]),
    ],
)
def test_wrong_spaces_are_refused_in_one_line(text: str, says: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make(text)
    assert "\n" not in str(caught.value)
    for part in says:
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["hswish", "h-swish", "hard_swish"])
def test_h_swish_has_several_spellings_and_one_name(name: str) -> None:
    space = make("mobile-small", activation=name)
    assert space.id == "mobile-small(activation='hard_swish')" and space == make(f"mobile-small(activation={name!r})")
    assert all(block.activation == "hard_swish" for block in space.blocks(space.largest()) if block)


def test_make_reads_its_own_ids_and_drops_defaults() -> None:
    space = make("mobile", width=0.5, classes=10, input_size=None)
    assert space.id == "mobile(width=0.5, classes=10)"
    assert make(space.id) == space
    assert make("mobile(width=1.0)").id == "mobile"
    assert make("mobile(kernels=[3, 5, 7])") == make("mobile", kernels=(3, 5, 7))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ir_r1_k3_s1_e3_c24", ["block 0", "ds_r1_k3_s1_c16"]),
        ("ds_r1_k3_s1_c16 | ir_r1_k7_s2_e3_c24", ["block 1 ", "k7", "ir_r1_k5_s2_e6_c24"]),
        ("ds_r1_k3_s1_c16 | ir_r5_k3_s2_e3_c24", ["block 5 ", "allows 4 blocks"]),
        ("ds_r1_k3_s1_c16 | skip", ["block 1 ", "'skip'"]),
        ("ds_r1_k3_s1_c16 | ir_r4_k3_s2_e3_c24", ["2 stages", "7"]),
    ],
)
def test_a_string_that_does_not_fit_names_the_block(text: str, says: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        SPACES["mobile"].parse(text)
    for part in [*says, "mobile"]:
        assert part in str(caught.value)


def test_choices_that_do_not_fit_name_the_block() -> None:
    space = SPACES["mobile"]
    choices = list(space.largest().choices)
    for wrong in ("skip", "k7_e6"):
        with pytest.raises(UserError, match=r"block 5 \(stage 2, layer 0\).*allows k3_e3, k3_e6, k5_e3, k5_e6;"):
            space.indices(Architecture("mobile", (*choices[:4], wrong, *choices[5:])))
    with pytest.raises(UserError, match="19 choices"):
        space.indices(Architecture("mobile", tuple(choices[1:])))
