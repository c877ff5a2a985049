"""Small generated data sets, the same images in every form."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("ant", "bee", "cow")


def pictures(count: int, seed: int = 0, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, side, side, 3] and labels; an image's first pixel is (label, number // 256, number % 256)."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count) % len(CLASSES)
    pixels[:, 0, 0] = np.stack([labels, np.arange(count) // 256, np.arange(count) % 256], axis=1)
    return pixels, labels


def write_folder(folder: Path, pixels: np.ndarray, labels: np.ndarray) -> Path:
    """PNG files below class folders."""
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / CLASSES[label] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def write_parquet(path: Path, pixels: np.ndarray, labels: np.ndarray, rows: int = 8) -> Path:
    """Hugging Face image parquet in row groups of `rows`."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cells = []
    for image in pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    features = {"image": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    kind = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    table = arrow.table({"image": arrow.array(cells, kind), "label": arrow.array(labels)})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=rows)
    return path


def spoilt_pages(path: Path, column: str) -> bytes:
    """What a parquet file holds, the pages of a column in its first row group overwritten; its footer stays."""
    group = pytest.importorskip("pyarrow.parquet").ParquetFile(path).metadata.row_group(0)
    chunks = [group.column(i) for i in range(group.num_columns)]
    chunk = next(c for c in chunks if c.path_in_schema.startswith(column))
    start, content = min(chunk.data_page_offset, chunk.dictionary_page_offset or 2**60), bytearray(path.read_bytes())
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    return bytes(content)


def write_npz(path: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "singlepath"


Writer = Callable[[Path], Path]


@pytest.fixture(params=["folder", "parquet", "npz"])
def write(request: pytest.FixtureRequest) -> Writer:
    """Writes 30 training and 12 test images in one of the forms."""
    train, test = pictures(30), pictures(12, seed=1)

    def folder(root: Path) -> Path:
        write_folder(root / "train", *train)
        write_folder(root / "test", *test)
        return root

    def parquet(root: Path) -> Path:
        write_parquet(root / "train-00000-of-00002.parquet", train[0][:17], train[1][:17])
        write_parquet(root / "train-00001-of-00002.parquet", train[0][17:], train[1][17:])
        write_parquet(root / "test.parquet", *test)
        return root

    def npz(root: Path) -> Path:
        return write_npz(root / "arrays.npz", train, test)

    return {"folder": folder, "parquet": parquet, "npz": npz}[request.param]
