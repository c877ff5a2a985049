"""NAS-Bench-101: the published file format, made small here; the 45 numbers; which cells are one."""

from __future__ import annotations

import base64
import io
import itertools
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singlepath.bench.tables import nasbench101, tfrecord
from singlepath.bench.tables.__main__ import main
from singlepath.bench.tables.nasbench101 import OPERATIONS, code_of, keys, named, sequence
from singlepath.bench.tasks import load_task, search_task
from singlepath.errors import UserError
from singlepath.search.query_methods import QUERY_METHODS, make_method

Cell = tuple[np.ndarray, tuple[int, ...]]  # adjacency matrix [v, v] above the diagonal, operations of inner vertices


def crc32c(text: bytes) -> int:
    """Bit by bit, as the polynomial is defined."""
    crc = 0xFFFFFFFF
    for byte in text:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(text: bytes) -> bytes:
    crc = crc32c(text)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def double(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)


def text(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def metrics(validation: float, test: float, parameters: int) -> bytes:
    """A ModelMetrics message: at the start, half-way, at the end."""
    message = b""
    for share in (0.0, 0.5, 1.0):
        accuracies = (share * 900.0, share, share * validation, share * test)
        body = double(1, 108 * share) + b"".join(double(f, v) for f, v in enumerate(accuracies, start=2))
        message += text(1, body + text(6, b"model.ckpt"))
    return message + varint(2 << 3) + varint(parameters) + double(3, 1000.0)


def row(name: str, cell: Cell, message: bytes, epochs: int = 108) -> bytes:
    matrix, inner = cell
    bits = "".join(str(int(bit)) for bit in matrix.ravel())
    names = ",".join(["input", *(OPERATIONS[o] for o in inner), "output"])
    return json.dumps([name, epochs, bits, names, base64.b64encode(message).decode()]).encode()


def framed(rows: list[bytes]) -> bytes:
    heads = [struct.pack("<Q", len(r)) for r in rows]
    return b"".join(head + masked(head) + r + masked(r) for head, r in zip(heads, rows, strict=True))


def cells(vertices: int) -> list[Cell]:
    """Every cell of so many vertices, all of them on a path from the input to the output."""
    above = list(itertools.combinations(range(vertices), 2))
    found = []
    for bits in itertools.product((0, 1), repeat=len(above)):
        matrix = np.zeros((vertices, vertices), int)
        for edge, bit in zip(above, bits, strict=True):
            matrix[edge] = bit
        if matrix[:-1].any(1).all() and matrix[:, 1:].any(0).all():
            found += [(matrix, inner) for inner in itertools.product(range(3), repeat=vertices - 2)]
    return found


def isomorphic(a: Cell, b: Cell) -> bool:
    count = len(a[0])
    if count != len(b[0]) or sorted(a[1]) != sorted(b[1]):
        return False
    for order in itertools.permutations(range(1, count - 1)):
        place = [0, *order, count - 1]
        if (a[0][np.ix_(place, place)] == b[0]).all() and tuple(a[1][i - 1] for i in order) == b[1]:
            return True
    return False


def code(cell: Cell) -> np.ndarray:
    name, _, bits, names, _ = json.loads(row("x", cell, b""))
    assert name == "x"
    return code_of(bits, names)


def small(folder: Path, count: int = 120) -> list[Cell]:
    """The published format with `count` different cells of up to five vertices, imported; returns the cells."""
    every = [cell for vertices in (3, 4, 5) for cell in cells(vertices)]
    hashes = keys(np.stack([code(cell) for cell in every]))
    some = [every[i] for i in np.sort(np.unique(hashes, return_index=True)[1])][::3][:count]
    rng = np.random.default_rng(0)
    rows = [row(str(i), cell, metrics(0.5, 0.5, 1), epochs=36) for i, cell in enumerate(some)]
    for run in range(3):
        for i, (matrix, inner) in enumerate(some):
            value = 0.8 + 0.01 * inner.count(1) + 0.001 * matrix.sum() + 0.0001 * rng.normal()
            rows.append(row(str(i), (matrix, inner), metrics(value, value - 0.01, 1000 * (i + 1) + run)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nasbench.tfrecord").write_bytes(framed(rows))
    nasbench101.import_published(folder / "nasbench.tfrecord", folder / nasbench101.FILE)
    return some


# -- the format -------------------------------------------------------------------------------------------------------


def test_checksums_are_those_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    rng = np.random.default_rng(0)
    texts = [b"", b"123456789", *(rng.bytes(int(n)) for n in rng.integers(0, 300, 40))]
    assert [struct.pack("<I", c) for c in tfrecord.masked_crc32c(texts)] == [masked(t) for t in texts]


def test_records_come_back_in_order_and_a_damaged_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, "TOGETHER", 7)
    rows = [bytes([i]) * (i * 5 % 31) for i in range(40)]
    path, whole = tmp_path / "a.tfrecord", framed(rows)
    path.write_bytes(whole)
    assert list(tfrecord.records(path)) == rows
    start = len(framed(rows[:23]))
    for offset, changed in ((start + 2, "record 23"), (start + 9, "record 23"), (start + 13, "record 23")):
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        with pytest.raises(UserError, match=changed):
            list(tfrecord.records(path))
    path.write_bytes(whole[:-3])
    with pytest.raises(UserError, match=r"record 39 .* ends inside"):
        list(tfrecord.records(path))
    path.write_bytes(struct.pack("<Q", 1 << 40) + whole[8:])
    with pytest.raises(UserError, match=r"record 0 .* not believable"):
        list(tfrecord.records(path))


def test_messages_are_read_by_the_wire_format() -> None:
    message = (
        varint(1 << 3) + varint(300) + double(2, -0.5) + text(3, b"ab") + varint(4 << 3 | 5) + struct.pack("<f", 2.0)
    )
    assert list(tfrecord.fields(message)) == [(1, 300), (2, -0.5), (3, b"ab"), (4, 2.0)]
    for broken in (message[:-1], text(3, b"abc")[:-1], varint(1 << 3 | 3), b"\x08" + b"\x80" * 11):
        with pytest.raises((ValueError, struct.error)):
            list(tfrecord.fields(broken))


def test_the_published_format_is_imported(tmp_path: Path) -> None:
    some = small(tmp_path)
    table = nasbench101.load(tmp_path)
    assert table["codes"].tolist() == [code(cell).tolist() for cell in some]
    assert table["validation"].shape == (len(some), 3), "runs of other lengths are left out"
    assert np.allclose(table["validation"] - table["test"], 1.0)
    assert table["parameters"].tolist() == [1000 * (i + 1) for i in range(len(some))]
    assert (table["seconds"] == 900).all()


def npz(**changed: np.ndarray) -> bytes:
    runs = np.ones((2, 3))
    table = {"codes": np.zeros((2, 26)), "validation": runs, "test": runs, "seconds": runs, "parameters": np.ones(2)}
    buffer = io.BytesIO()
    arrays: dict[str, Any] = table | changed
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK\x03\x04 torn", b"\x80\x04N.", npz()[:300], npz()[:-40], npz(codes=np.zeros((2, 25))),
        npz(test=np.ones((3, 3))), npz(test=np.array([[None] * 3] * 2)), npz(parameters=np.ones((2, 1))),
        npz().replace(b"seconds.npy", b"minutes.npy"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_named_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / nasbench101.FILE
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"nasbench101\.npz cannot be read .* import it again$") as caught:
        nasbench101.load(tmp_path)
    assert "\n" not in str(caught.value)
    path.write_bytes(npz())
    assert nasbench101.load(tmp_path)["codes"].shape == (2, 26)


@pytest.mark.parametrize("name", ["nasbench101", "nasbench201"])
def test_importing_as_a_program_says_mistakes_in_one_line(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    program = [sys.executable, "-m", "singlepath.bench.tables", name]
    ended = subprocess.run([*program, "/nope", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "") and not (tmp_path / "out").exists()
    said = ended.stderr.splitlines()
    assert len(said) == 1 and said[0].startswith("singlepath: /nope does not exist; needed: ")


def test_importing_where_nothing_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small(tmp_path / "made", count=3)
    (tmp_path / "taken").write_text("")
    source = tmp_path / "made" / "nasbench.tfrecord"
    for out, status in ((tmp_path / "taken" / "out", 2), (tmp_path / "here" / "out", 0)):
        assert main(["nasbench101", str(source), str(out)]) == status
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ((f"{out}\n", 0) if status == 0 else ("", 1))


def test_what_is_not_a_cell_is_named(tmp_path: Path) -> None:
    cell = cells(4)[0]
    good = row("a", cell, metrics(0.9, 0.9, 1))
    for bad in (
        b"[1, 2]", good.replace(b"conv1x1-bn-relu", b"conv7x7"), good.replace(b"input", b"inbut"),
        row("a", (cell[0].T, cell[1]), metrics(0.9, 0.9, 1)), row("a", cell, b"\x0a\x05"),
    ):  # fmt: skip
        (tmp_path / "a").write_bytes(framed([good, bad]))
        with pytest.raises(UserError, match="record 1 of"):
            nasbench101.import_published(tmp_path / "a", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
    with pytest.raises(UserError, match=r"python -m singlepath.bench.tables nasbench101"):
        load_task("nasbench101", tmp_path)


# -- cells ------------------------------------------------------------------------------------------------------------


def test_cells_have_one_key_exactly_where_they_are_isomorphic() -> None:
    every = [*cells(2), *cells(3), *cells(4), *cells(5)]
    found = keys(np.stack([code(cell) for cell in every]))
    groups = np.unique(found, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    likely = [(i, j) for i, j in rng.integers(len(every), size=(300_000, 2)) if every[i][0].sum() == every[j][0].sum()]
    alike = [(i, j) for i, j in likely if sorted(every[i][1]) == sorted(every[j][1])][:4000]
    alike += [
        (np.flatnonzero(groups == g)[0], np.flatnonzero(groups == g)[-1])
        for g in np.flatnonzero(np.bincount(groups) > 1)
    ]
    same = [(bool(found[i] == found[j]), isomorphic(every[i], every[j])) for i, j in alike]
    assert all(a == b for a, b in same)
    assert 100 < sum(a for (a, _), (i, j) in zip(same, alike, strict=True) if i != j) < len(same) - 1000


def test_vertices_on_no_path_do_not_count() -> None:
    matrix = np.zeros((5, 5), int)
    matrix[0, 1] = matrix[1, 4] = 1
    kept = code((matrix[np.ix_([0, 1, 4], [0, 1, 4])], (2,)))
    matrix[0, 2] = matrix[2, 3] = 1  # a way that leads nowhere
    assert keys(code((matrix, (2, 0, 1)))[None]) == keys(kept[None])
    matrix[3, 4] = 1
    assert keys(code((matrix, (2, 0, 1)))[None]) != keys(kept[None])


def test_the_sequence_is_nao_s() -> None:
    matrix = np.array([[0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])
    found = sequence(code((matrix, (2, 0)))[None])[0]
    into = [[1], [1, 1], [0, 1, 1]]
    kinds = [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    wanted = [bit for column, kind in zip(into, kinds, strict=True) for bit in (*column, *kind)]
    assert found.tolist() == wanted + [0] * (45 - len(wanted))


def test_neighbours_are_one_change_away_and_reach_every_cell(tmp_path: Path) -> None:
    small(tmp_path, 10_000)
    pool = load_task("nasbench101", tmp_path).pool
    rng = np.random.default_rng(0)
    around = [set(pool.neighbours(i, rng).tolist()) for i in range(len(pool))]
    assert all(i not in near for i, near in enumerate(around))
    seen, new = {0}, {0}
    while new:
        new = set().union(*(around[i] for i in new)) - seen
        seen |= new
    assert len(seen) > 0.95 * len(pool)


def test_any_name_of_a_cell_finds_it(tmp_path: Path) -> None:
    some = small(tmp_path)
    pool = load_task("nasbench101", tmp_path).pool
    renamed = [(m, o) for m, o in some if len(m) == 5][:40]
    for matrix, inner in renamed:
        place = [0, 2, 1, 3, 4]
        other = matrix[np.ix_(place, place)]
        if not np.tril(other).any():
            found = pool.find(code((other, (inner[1], inner[0], inner[2])))[None])
            assert pool.codes[found].tolist() == [code((matrix, inner)).tolist()]
    missing = np.ones((1, 26), np.int64)
    assert (named(pool.codes)(missing) == missing).all()
    assert len(pool.find(missing)) == 0


@pytest.mark.parametrize("name", QUERY_METHODS)
def test_every_method_runs_on_it(name: str, tmp_path: Path) -> None:
    small(tmp_path)
    task = load_task("nasbench101", tmp_path)
    outcome, state = search_task(make_method(name), task, seed=0, queries=40)
    assert (outcome, state) == search_task(make_method(name), task, seed=0, queries=40)
    assert outcome.queries == len(set(state["asked"])) == 40
    assert outcome.test == pytest.approx(outcome.validation - 1.0)
