"""What a user types wrong ends in one line that says what to type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singlepath.data import load
from singlepath.errors import UserError

from .conftest import pictures, spoilt_pages, write_folder, write_parquet


def refused(source: Any, *words: str, **options: Any) -> None:
    """Loading fails with one line that holds all `words`."""
    with pytest.raises(UserError) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message and message.count(";") >= 2
    for word in words:
        assert word in message, message


def test_unknown_names_and_missing_folders(tmp_path: Path) -> None:
    refused("digit", "'digit'", "digits (built in)", "type --data digits")
    refused(tmp_path / "nothing", "nothing", "a folder of class folders", "correct the path")
    (tmp_path / "notes.txt").write_text("x")
    refused(tmp_path / "notes.txt", "notes.txt", ".npz")


def test_folders_that_hold_too_little(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no class folders", "ROOT/CLASS")
    (tmp_path / "bare" / "ant").mkdir(parents=True)
    (tmp_path / "bare" / "bee").mkdir()
    refused(tmp_path / "bare", "no images", ".jpg")
    pixels, labels = pictures(30)
    refused(write_folder(tmp_path / "one", pixels, labels * 0), "one class (ant)", "at least 2 classes")
    root = write_folder(tmp_path / "hollow", pixels, labels)
    (root / "zebra").mkdir()
    refused(root, "'zebra'", "has no images", "remove the class")


@pytest.mark.parametrize("part", ["val", "test"])
def test_parts_with_other_classes(part: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "train", *pictures(12))
    write_folder(tmp_path / part, *pictures(12))
    (tmp_path / part / "cow").rename(tmp_path / part / "cwo")
    refused(tmp_path, "'cow'", "train/ only", f"train/ and {part}/")


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("train", "Test"), ("TRAIN", "test")])
def test_parts_are_known_by_other_names(train: str, test: str, tmp_path: Path) -> None:
    write_folder(tmp_path / train, *pictures(30))
    write_folder(tmp_path / test, *pictures(12, seed=1))
    data = load(tmp_path)
    assert data.classes == ("ant", "bee", "cow")
    assert (len(data.train) + len(data.val), len(data.open_test())) == (30, 12)


def test_a_test_part_without_images_is_found_out_at_once(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", *pictures(30))
    for name in ("ant", "bee", "cow"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "0.heic").write_bytes(b"not read")
    refused(tmp_path, "test' hold no images", ".jpg")


def test_parts_may_stand_beside_the_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, *pictures(30))
    write_folder(tmp_path / "test", *pictures(12, seed=1))
    data = load(tmp_path)
    assert data.classes == ("ant", "bee", "cow")
    assert (len(data.train) + len(data.val), len(data.open_test())) == (30, 12)
    write_folder(tmp_path / "valid", *pictures(6, seed=2))
    assert (len(load(tmp_path).train), len(load(tmp_path).val)) == (30, 6)
    (tmp_path / "test" / "cow").rename(tmp_path / "test" / "cwo")
    refused(tmp_path, "'cow' in the root only", "test/ must hold")


def test_a_class_may_be_called_test_and_hold_folders(tmp_path: Path) -> None:
    root = write_folder(tmp_path, *pictures(30))
    (root / "cow").rename(root / "few")
    (root / "test").mkdir()
    (root / "few").rename(root / "test" / "first")
    data = load(root)
    assert data.classes == ("ant", "bee", "test") and len(data.train) + len(data.val) + len(data.open_test()) == 30


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = write_folder(tmp_path, *pictures(30))
    (root / "cow").rename(root / "train")
    assert load(root).classes == ("ant", "bee", "train")


def test_a_test_part_of_another_form_is_found_out_at_once(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_parquet(tmp_path / "train.parquet", *pictures(30))
    table = parquet.read_table(write_parquet(tmp_path / "test.parquet", *pictures(6)))
    parquet.write_table(table.rename_columns(["image", "answer"]), tmp_path / "test.parquet")
    refused(tmp_path, "test.parquet lacks the column 'label'", "'image' and 'label'")
    parquet.write_table(table.slice(0, 0), tmp_path / "test.parquet")
    refused(tmp_path, "test.parquet has no rows", "move it away")
    parquet.write_table(arrow.table({"image": [b""]}), tmp_path / "validation.parquet")
    parquet.write_table(table, tmp_path / "test.parquet")
    refused(tmp_path, "validation.parquet lacks the column 'label'", "rename")
    (tmp_path / "validation.parquet").rename(tmp_path / "train2.parquet")
    refused(tmp_path, "train2.parquet lacks the column 'label'", "rename")


def test_test_arrays_of_another_form_are_found_out_at_once(tmp_path: Path) -> None:
    pixels, labels = pictures(30)
    path, train = tmp_path / "a.npz", {"x_train": pixels, "y_train": labels}
    for more, says in (
        ({"x_test": pixels / 255.0, "y_test": labels}, "x_test is float64"),
        ({"x_test": pixels, "y_test": labels[:5]}, "y_test is int64 with 5 values for 30 images"),
        ({"x_test": pixels[:0], "y_test": labels[:0]}, "x_test is uint8 of shape (0, "),
        ({"x_test": pixels}, "x_test but no y_test"),
        ({"y_val": labels}, "y_val but no x_val"),
    ):
        np.savez(path, allow_pickle=False, **train, **more)
        refused(path, says, "a.npz")


def test_labels_that_are_missing_are_no_class(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = write_parquet(tmp_path / "a.parquet", *pictures(30))
    table = parquet.read_table(path)
    for label, says in ((["ant", None, "bee"] * 10, "lacks 10 labels"), ([[1], [2, 3], [4]] * 10, "is list<")):
        parquet.write_table(table.set_column(table.schema.get_field_index("label"), "label", arrow.array(label)), path)
        refused(path, "'label'", says, "none missing")


def test_more_than_one_percent_corrupt(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data" / "train", *pictures(100)).parent
    write_folder(root / "test", *pictures(12))
    for number in (3, 6):
        (root / "train" / "ant" / f"{number:04d}.png").write_bytes(b"not a picture")
    refused(root, "2 of 100 images", "train/ant/0003.png", "1%")
    write_folder(root / "train", pictures(7)[0][6:], np.array([0]))
    (root / "train" / "ant" / "0000.png").write_bytes(b"one of a hundred")
    write_folder(root / "train", pictures(4)[0], pictures(4)[1])
    (root / "train" / "ant" / "0003.png").write_bytes(b"one of a hundred")
    (root / "train" / "ant" / "0006.png").write_bytes((root / "train" / "bee" / "0001.png").read_bytes())
    assert load(root).skipped == ["train/ant/0003.png"]  # exactly 1 % is not more


def test_options_out_of_range(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", *pictures(30))
    refused(root, "limit of 4", "--limit 6", limit=4)
    refused(root, "2 px", "8 to 1024", size=2)
    refused(root, "1.5", "give val_fraction=0.2", val_fraction=1.5)
    refused(root, "4 input channels", "1, 3", channels=4)


def test_arrays_that_cannot_be_used(tmp_path: Path) -> None:
    pixels, labels = pictures(30)
    path = tmp_path / "a.npz"

    def stored(**arrays: Any) -> Path:
        np.savez(path, **arrays)
        return path

    refused(stored(a=pixels), "a.npz holds the arrays a", "x_train and y_train")
    refused(stored(x=pixels / 255.0, y=labels), "float64", "uint8")
    refused(stored(x=pixels, y=labels[:5]), "5 values for 30 images")
    refused(stored(x=pixels, y=np.array([{}] * 30, dtype=object)), "Python objects")
    refused(stored(x_train=pixels, y_train=labels, x_val=pixels, y_val=labels + 1), "label 3", "0 to 2")
    np.savez_compressed(path, x=pixels, y=labels)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 3 : len(damaged) // 2] = bytes(len(damaged) // 2 - len(damaged) // 3)
    path.write_bytes(damaged)
    refused(path, "cannot be read", "numpy.savez")
    path.write_bytes(b"PK not a zip")
    refused(path, "cannot be read", "numpy.savez")
    np.savez(tmp_path / "b.npz", x=pixels, y=labels)
    refused(tmp_path, "2 .npz files", "a.npz")


def test_an_array_that_claims_an_absurd_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    import io
    import zipfile

    header = io.BytesIO()
    declared: Any = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 32, 32, 3)}
    np.lib.format.write_array_header_1_0(header, declared)
    labels = io.BytesIO()
    np.save(labels, np.arange(6) % 2)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue())
        archive.writestr("y_train.npy", labels.getvalue())
    refused(tmp_path / "bomb.npz", "1000000000", "GiB")


def test_parquet_that_cannot_be_used(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_parquet(tmp_path / "test.parquet", *pictures(6))
    refused(tmp_path, "no training file", "train*.parquet")
    parquet.write_table(arrow.table({"text": ["a"], "label": [0]}), tmp_path / "train.parquet")
    refused(tmp_path, "columns text, label", "image column")
    (tmp_path / "train.parquet").write_bytes(b"nonsense")
    refused(tmp_path, "cannot be read")


@pytest.mark.parametrize("column", ["image", "label"])
def test_a_damaged_parquet_page_is_named(tmp_path: Path, column: str) -> None:
    path = write_parquet(tmp_path / "photos.parquet", *pictures(30))
    path.write_bytes(spoilt_pages(path, column))
    refused(path, "photos.parquet", "cannot be read", "fetch it again")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    path = write_parquet(tmp_path / "train.parquet", *pictures(6))
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(path, "pyarrow", "'data'", "singlepath[data]")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    refused("digits", "sklearn", "'search'")


def test_too_much_for_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from singlepath.data import decode

    monkeypatch.setattr(decode, "MOST_IN_MEMORY", 30 * 3 * 16 * 16)
    path = write_parquet(tmp_path / "train.parquet", *pictures(30))
    refused(path, "need", "--limit", size=32)
    assert len(load(path).all_train) == 24
