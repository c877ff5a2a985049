"""Every form of data gives the same images, splits and promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from singlepath.data import ArrayImages, FileImages, Images, evaluation_batches, load
from singlepath.data import decode as decoding
from singlepath.errors import UserError

from .conftest import CLASSES, Writer, pictures, spoilt_pages, write_folder, write_npz, write_parquet


def arrays(images: Images) -> torch.Tensor:
    assert isinstance(images, ArrayImages)
    return images.pixels


def numbers(images: Images) -> list[int]:
    """Which generated pictures these are; also checks that each has its label."""
    corner = arrays(images)[:, :, 0, 0].int()
    assert torch.equal(corner[:, 0].long(), images.labels)
    return (256 * corner[:, 1] + corner[:, 2]).tolist()


def test_each_form_gives_the_same_images_and_labels(write: Writer, tmp_path: Path) -> None:
    data = load(write(tmp_path / "data"))
    assert data.preprocess.size == 16
    assert sorted(numbers(data.all_train)) == list(range(30))
    assert set(numbers(data.train)).isdisjoint(numbers(data.val))
    assert len(data.val) == 6 and data.val.labels.bincount().tolist() == [2, 2, 2]
    wanted = pictures(30)[0][numbers(data.all_train)].transpose(0, 3, 1, 2)
    assert np.array_equal(arrays(data.all_train).numpy(), wanted)
    assert sorted(numbers(data.open_test())) == list(range(12))
    assert data.skipped == []


def test_how_large_images_are_is_told_whatever_they_are_read_at(write: Writer, tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    assert load(root).side == load(root, size=8).side == load(root, size=64).side == 16


@pytest.mark.parametrize("counts", [(80, 80, 80), (30, 20, 76), (40, 50, 40)])
@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_images_of_every_class_tell_how_large_they_are(tmp_path: Path, form: str, counts: tuple[int, ...]) -> None:
    """They stand class by class; a few of the first class would not do. The long edge does not matter."""
    sides = np.repeat((20, 60, 100), counts)
    pixels = np.empty(len(sides), dtype=object)
    pixels[:] = [np.zeros((300, side, 3), np.uint8) for side in sides]
    write = {"folder": write_folder, "parquet": write_parquet}[form]
    root = write(tmp_path / {"folder": "photos", "parquet": "train.parquet"}[form], pixels, np.repeat(range(3), counts))
    data = load(root)
    assert data.side == data.preprocess.size == np.median(sides)
    assert load(root, size=32).side == np.median(sides)


def test_class_names_are_those_of_folders_and_metadata(tmp_path: Path) -> None:
    assert load(write_folder(tmp_path / "folder", *pictures(12))).classes == CLASSES
    assert load(write_parquet(tmp_path / "one.parquet", *pictures(12))).classes == CLASSES


def test_the_split_follows_the_seed_and_the_fingerprint_follows_the_split(write: Writer, tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    first, again, other = load(root, seed=1), load(root, seed=1), load(root, seed=2)
    assert numbers(first.val) == numbers(again.val) != numbers(other.val)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert load(root, seed=1, size=24).fingerprint != first.fingerprint


def test_the_test_parts_images_and_labels_may_be_spoilt_until_it_is_opened(write: Writer, tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    if root.suffix == ".npz":
        with np.load(root) as stored:
            kept = {key: stored[key] for key in stored.files}
        np.savez(root, allow_pickle=False, **{**kept, "y_test": kept["y_test"] + 7})
    elif (file := root / "test.parquet").is_file():
        file.write_bytes(spoilt_pages(file, "label"))
    else:
        for file in (root / "test").rglob("*.png"):
            file.write_bytes(b"spoilt")
    data = load(root)
    data.train.fingerprint()
    with pytest.raises(UserError, match=r"cannot be (decoded|read)|has the label"):
        data.open_test()


def test_a_test_folder_can_go_away_until_it_is_opened(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_folder(root / "train", *pictures(12))
    write_folder(root / "test", *pictures(6))
    data = load(root)
    (root / "test").rename(tmp_path / "elsewhere")
    assert len(list(evaluation_batches(data.all_train, data.preprocess))) == 1
    (tmp_path / "elsewhere").rename(root / "test")
    assert len(data.open_test()) == 6
    shutil.rmtree(root / "test")
    assert len(data.open_test()) == 6  # read once


def test_a_test_part_that_is_not_given_is_a_fifth_and_the_same_for_every_seed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", *pictures(60))
    tests = [numbers(load(root, seed=seed).open_test()) for seed in (0, 1)]
    assert tests[0] == tests[1] and len(tests[0]) == 12
    data = load(root, seed=1)
    assert sorted(numbers(data.all_train) + numbers(data.open_test())) == list(range(60))
    assert data.open_test().labels.bincount().tolist() == [4, 4, 4]


def test_files_of_a_test_part_that_is_split_off_are_not_decoded_before(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", *pictures(60))
    held_back = numbers(load(root).open_test())
    for number in held_back:
        next(root.rglob(f"{number:04d}.png")).write_bytes(b"spoilt")
    assert load(root).skipped == []


def test_a_val_folder_is_the_held_out_part(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_folder(root / "train", *pictures(30))
    write_folder(root / "val", pictures(9)[0] + 1, pictures(9)[1])
    data = load(root)
    assert len(data.val) == 9 and len(data.train) == 24
    assert int(arrays(data.val)[0, 0, 0, 0]) == 1
    write_folder(root / "val", pictures(1)[0] + 2, pictures(1)[1])
    assert load(root).fingerprint != data.fingerprint
    limited = load(root, limit=18)
    assert len(limited.all_train) == 18 and abs(len(limited.val) - 18 * 9 / 33) < 1


def test_limit_counts_the_held_out_images_and_keeps_classes_in_proportion(tmp_path: Path) -> None:
    pixels, _ = pictures(120)
    labels = np.repeat([0, 1, 2], [60, 40, 20])
    pixels[:, 0, 0, 0] = labels
    root = write_npz(tmp_path / "a.npz", (pixels, labels), pictures(50))
    data = load(root, limit=30, val_fraction=1 / 3)
    assert len(data.all_train) == 30 and len(data.val) == 10 and len(data.open_test()) == 30
    assert data.all_train.labels.bincount().tolist() == [15, 10, 5]
    assert data.val.labels.bincount().tolist() == [5, 3, 2]
    assert numbers(load(root, limit=30, seed=3).all_train) != numbers(data.all_train)


def test_limit_decodes_only_what_it_needs(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", *pictures(60))
    used = {f"{number:04d}.png" for number in numbers(load(root, limit=12).all_train)}
    for path in root.rglob("*.png"):
        if path.name not in used:
            path.write_bytes(b"spoilt")
    assert len(load(root, limit=12).all_train) == 12


def test_corrupt_images_are_named_and_skipped(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_folder(root / "train", *pictures(210))
    write_folder(root / "test", *pictures(12))
    broken = root / "train" / "bee" / "0001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (root / "train" / "cow" / "0002.png").write_bytes(b"")
    for memory in (decoding.FILES_IN_MEMORY, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "FILES_IN_MEMORY", memory)
            data = load(root)
        assert isinstance(data.train, ArrayImages if memory else FileImages)
        assert sorted(data.skipped) == ["train/bee/0001.png", "train/cow/0002.png"]
        assert len(data.all_train) == 208
    assert sorted(numbers(load(root).all_train)) == sorted(set(range(210)) - {1, 2})


def test_every_class_is_trained_on_and_held_out_whatever_the_fraction(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [50, 7, 3])
    root = write_folder(tmp_path / "data", pictures(60)[0], labels)
    for fraction in (0.01, 0.5, 0.99):
        data = load(root, val_fraction=fraction)
        for part in (data.train, data.val, data.open_test()):
            assert part.labels.bincount(minlength=3).min() >= 1


def test_a_corrupt_parquet_row_is_named(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = write_parquet(tmp_path / "train-0.parquet", *pictures(210))
    path = write_parquet(tmp_path / "train-1.parquet", *pictures(210))
    write_parquet(tmp_path / "test.parquet", *pictures(6))
    table = parquet.read_table(path)
    cells = table.column("image").to_pylist()
    for row in (0, 137):
        cells[row]["bytes"] = cells[row]["bytes"][:100]
    table = table.set_column(0, "image", arrow.array(cells, table.schema.field("image").type))
    parquet.write_table(table, path, row_group_size=50)
    data = load(tmp_path)
    assert sorted(data.skipped) == ["train-1.parquet row 0", "train-1.parquet row 137"]
    assert sorted(numbers(data.all_train)) == sorted([*range(210), *(set(range(210)) - {0, 137})])


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_absurd_size_is_skipped_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "data", *pictures(300))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16 * 16)
    Image.new("RGB", (16, 17)).save(root / "ant" / "0000.png")
    data = load(root)
    data.open_test()
    assert data.skipped == ["ant/0000.png"]


@pytest.mark.parametrize("layout", ["medmnist", "plain", "first channel", "grey"])
def test_other_npz_layouts(layout: str, tmp_path: Path) -> None:
    pixels, labels = pictures(30)
    path = tmp_path / "other.npz"
    if layout == "medmnist":
        stored = {"train_images": pixels, "train_labels": labels[:, None], "val_images": pixels, "val_labels": labels}
    elif layout == "plain":
        stored = {"images": pixels, "labels": np.array(CLASSES)[labels]}
    elif layout == "first channel":
        stored = {"X_train": pixels.transpose(0, 3, 1, 2), "Y_train": labels, "class_names": np.array(CLASSES)}
    else:
        stored = {"x": pixels[..., 0], "y": labels + 5}
    np.savez(path, allow_pickle=False, **stored)
    data = load(path)
    expected = {"medmnist": ("0", "1", "2"), "grey": ("5", "6", "7")}.get(layout, CLASSES)
    assert data.classes == expected
    assert arrays(data.train).shape[1:] == (3, 16, 16)
    if layout != "grey":
        assert len(numbers(data.all_train)) == (54 if layout == "medmnist" else 24)


def test_channels_follow_the_request(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", *pictures(30))
    grey = load(root, channels=1)
    assert arrays(grey.train).shape[1] == 1 and len(grey.preprocess.mean) == 1
    many = np.random.default_rng(0).integers(0, 256, (30, 9, 9, 6), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", x=many, y=np.arange(30) % 3)
    data = load(tmp_path / "many.npz", channels=6, size=18)
    assert arrays(data.train).shape[1:] == (6, 18, 18) and len(data.preprocess.std) == 6


def test_digits() -> None:
    pytest.importorskip("sklearn")
    data, other = load("digits"), load("digits", seed=1)
    test = data.open_test()
    assert data.classes == tuple("0123456789") and not data.flip
    assert data.preprocess.size == 32 and arrays(test).shape == (359, 3, 32, 32)
    assert len(data.all_train) + len(test) == 1797 and len(data.val) == 288
    assert test.fingerprint() == other.open_test().fingerprint()
    assert data.val.fingerprint() != other.val.fingerprint()
    share = data.val.labels.bincount() / data.all_train.labels.bincount()
    assert (share - 0.2).abs().max() < 0.01
    assert int(arrays(test).max()) == 255


def test_flowers(shared_data: Path) -> None:
    data = load(shared_data / "flowers17")
    assert (len(data.train), len(data.val), len(data.open_test())) == (680, 340, 340)
    assert len(data.classes) == 17 and data.preprocess.size == 16


def test_cifar(shared_data: Path) -> None:
    pytest.importorskip("pyarrow")
    data = load(shared_data / "cifar10", limit=500)
    assert data.classes[0] == "airplane" and data.classes[9] == "truck" and data.flip
    assert (len(data.train), len(data.val)) == (400, 100)
    assert data.all_train.labels.bincount().tolist() == [50] * 10
    assert arrays(data.train).shape == (400, 3, 32, 32)
    assert data.preprocess.mean == pytest.approx((0.491, 0.482, 0.447), abs=0.03)
