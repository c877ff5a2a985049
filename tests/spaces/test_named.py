"""Named networks: published sizes, what spaces can express, and the off-the-shelf baselines."""

from __future__ import annotations

from pathlib import Path

import pytest

from singlepath.architecture import NetworkSpec
from singlepath.costs import macs, parameters
from singlepath.errors import UserError
from singlepath.spaces import make
from singlepath.spaces.named import BASELINES, NAMED, network_spec, off_the_shelf, published, resolve

# parameters as published by timm (ProxylessNAS: by its own release); MACs at 224 px by our counting, millions
PUBLISHED = {
    "spnasnet_100": (4_421_616, 333.467),
    "mnasnet_b1": (4_383_312, 314.416),
    "mnasnet_a1": (3_887_038, 311.579),
    "mobilenetv2_100": (3_504_872, 300.774),
    "proxylessnas_mobile": (4_080_512, 320.428),
    "fbnetc_100": (5_572_200, 384.960),
}
MOBILE, SMALL, MACRO = make("mobile"), make("mobile-small"), make("macro")


def quick_macs(spec: NetworkSpec) -> float:
    """MACs of a network without squeeze-and-excitation, by hand."""
    side = -(-spec.input_size // spec.stem_stride)
    total = 9 * spec.in_channels * spec.stem_channels * side**2
    for b in spec.blocks:
        mid, wide = b.mid_channels, b.out_side**2
        total += b.in_channels * mid * b.side**2 if b.kind == "ir" else 0
        total += mid * b.kernel**2 * wide + mid * b.out_channels * wide
    last = spec.blocks[-1]
    return total + last.out_channels * spec.head_channels * last.out_side**2 + spec.head_channels * spec.classes


def test_macs_are_what_a_hand_count_gives() -> None:
    for spec in (published("mobilenetv2_100"), published("spnasnet_100"), SMALL.network(SMALL.largest())):
        assert macs(spec) == quick_macs(spec)


@pytest.mark.parametrize("name", NAMED)
def test_published_sizes(name: str) -> None:
    spec = published(name)
    assert parameters(spec) == PUBLISHED[name][0]
    assert macs(spec) / 1e6 == pytest.approx(PUBLISHED[name][1], abs=1e-3)


def test_spnasnet_is_the_papers_network() -> None:
    architecture = resolve("spnasnet_100", MOBILE)
    k3, k5, small = "k3_e3", "k5_e6", "k5_e3"
    assert architecture.choices == (
        k3,
        k3,
        k3,
        "skip",
        k5,
        k3,
        k3,
        k3,
        k5,
        k3,
        k3,
        k3,
        k5,
        small,
        small,
        small,
        *[k5] * 4,
    )
    spec = MOBILE.network(architecture)
    assert parameters(spec) == 4_421_616
    assert macs(spec) == 333_467_072


@pytest.mark.parametrize("name", NAMED)
def test_names_that_fit_say_so(name: str) -> None:
    given = NAMED[name]
    if given.space is None:
        with pytest.raises(UserError, match=r"block \d+ \(stage"):
            resolve(name, MOBILE)
    else:
        assert make(given.space).network(resolve(name, make(given.space))).string()
    assert resolve("mnasnet_100", MOBILE) == resolve("mnasnet_b1", MOBILE)


@pytest.mark.parametrize(
    ("name", "space", "says"),
    [
        ("mobilenetv2_100", "mobile", "block 5 (stage 2, layer 0) is 'ir_r3_k3_s2_e6_c32'; space mobile allows"),
        ("proxylessnas_mobile", "mobile", "block 1 "),
        ("fbnetc_100", "mobile", "block 0 "),
        ("mnasnet_a1", "mobile(se=(0, 0.25))", "block 13 "),
        ("spnasnet_100", "mobile-small", "block 7 (stage 2, layer 3)"),
        ("spnasnet_100", "mobile(width=0.5)", "block 0 "),
    ],
)  # fmt: skip
def test_names_a_space_cannot_express_name_the_first_block(name: str, space: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(name, make(space))
    assert says in str(caught.value)


def test_resolve_reads_files_folders_json_strings_and_digits(tmp_path: Path) -> None:
    architecture = SMALL.largest()
    (tmp_path / "architecture.json").write_text(architecture.to_json())
    given = (
        tmp_path / "architecture.json",
        tmp_path,
        str(tmp_path),
        architecture.to_json(),
        SMALL.string(architecture),
    )
    assert {resolve(text, SMALL) for text in given} == {architecture}
    assert resolve("22212220", MACRO).choices == ("k5_e6",) * 3 + ("k3_e3",) + ("k5_e6",) * 3 + ("skip",)
    other = make("mobile-small(classes=7)")
    assert resolve(architecture.to_json(), other).space == other.id  # the same choices, another number of classes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("spnasnet", "spnasnet_100"),
        ("mobilenet_v2", "mobilenetv2"),
        ("nowhere/architecture.json", "no architecture file"),
        ("", "unknown architecture"),
        ('{"space": "macro", "choices": []}', "space macro"),
        ('{"space": "mobile-small", "choices": ["k3_e3"]}', "1 choices"),
        ("0121012", "unknown"),
        ("ir_r1_k9_s1_e3_c24", "block 0"),
    ],
)
def test_resolve_refuses_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        resolve(text, SMALL)
    assert "\n" not in str(caught.value)


def test_a_binary_or_huge_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.json").write_bytes(b" " * 1_000_001)
    for name in ("a.json", "b.json"):
        with pytest.raises(UserError):
            resolve(tmp_path / name, SMALL)


@pytest.mark.parametrize("space", ["mobile", "mobile-small", "macro", "mobile(width=0.25, input_size=64)"])
@pytest.mark.parametrize("name", BASELINES)
def test_off_the_shelf_has_the_spaces_conditions_and_fills_the_budget(name: str, space: str) -> None:
    made = make(space)
    limit = 0.6 * quick_macs(made.network(made.largest()))
    spec, width = off_the_shelf(name, made, quick_macs, limit)
    assert 0.9 * limit <= quick_macs(spec) <= limit
    wanted = (made.input_size, made.stem_channels, made.stem_stride, made.head_channels, made.classes, made.padding)
    own = (spec.input_size, spec.stem_channels, spec.stem_stride, spec.head_channels, spec.classes, spec.padding)
    assert own == wanted
    largest = made.network(made.largest())
    assert spec.blocks[-1].out_side == largest.blocks[-1].out_side
    assert [b.stride for b in spec.blocks].count(2) == [b.stride for b in largest.blocks].count(2)
    assert all(b.out_channels % 8 == 0 and b.out_channels >= 8 for b in spec.blocks)
    assert 0.05 <= width <= 8
    chained = zip(spec.blocks, spec.blocks[1:], strict=False)
    assert all(a.out_channels == b.in_channels and a.out_side == b.side for a, b in chained)


def test_the_first_strides_are_dropped() -> None:
    spec = network_spec("spnasnet_100", SMALL)
    strided = [b.out_channels for b in spec.blocks if b.stride == 2]
    assert strided == [40, 80, 192]  # its fourth, of the 24-channel stage, became 1
    assert network_spec("spnasnet_100", MOBILE).blocks == published("spnasnet_100").blocks


def test_a_wider_budget_is_never_a_narrower_network() -> None:
    widths = [off_the_shelf("mobilenetv2", SMALL, quick_macs, limit)[1] for limit in (6e6, 9e6, 14e6, 30e6)]
    assert widths == sorted(set(widths))


def test_a_budget_below_the_narrowest_is_refused() -> None:
    with pytest.raises(UserError, match="narrowest"):
        off_the_shelf("mobilenetv2", SMALL, quick_macs, 1000)


def test_own_costs_decide() -> None:
    def blocks_out(spec: NetworkSpec) -> float:
        return sum(b.out_channels for b in spec.blocks)

    spec, _ = off_the_shelf("spnasnet_100", SMALL, blocks_out, 500)
    assert 450 <= blocks_out(spec) <= 500
