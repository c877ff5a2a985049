"""Batches depend on seed, epoch and sample, and on nothing else."""

from __future__ import annotations

import operator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from singlepath.data import (
    ArrayImages,
    Augment,
    Batch,
    Data,
    FileImages,
    Images,
    batch_count,
    batches,
    evaluation_batches,
    load,
)
from singlepath.data import decode as decoding
from singlepath.data.geometry import crop_boxes
from singlepath.errors import SinglepathError

from .conftest import pictures, write_folder, write_npz

EVERYTHING = Augment(crop_padding=2, random_resized=True, randaugment_ops=2, erase=0.5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data"), *pictures(90, side=80))


@pytest.fixture(scope="module", params=["arrays", "files"])
def data(request: pytest.FixtureRequest, root: Path) -> Data:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "files":
            patch.setattr(decoding, "FILES_IN_MEMORY", 0)
        data = load(root, size=72)
    assert isinstance(data.train, FileImages if request.param == "files" else ArrayImages)
    return data


def epoch(data: Data, **options: object) -> list[Batch]:
    settings = {"batch_size": 8, "seed": 3, "epoch": 1, "augment": EVERYTHING} | options
    return list(batches(data.train, data.preprocess, **settings))  # pyright: ignore[reportArgumentType]


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and torch.equal(a.index, b.index)
        for a, b in zip(first, second, strict=True)
    )


def test_an_epoch_repeats_and_differs_by_seed_and_epoch(data: Data) -> None:
    first = epoch(data)
    assert same(first, epoch(data))
    for other in (epoch(data, seed=4), epoch(data, epoch=2)):
        assert not torch.equal(first[0].index, other[0].index)
        one = {int(i): x for batch in first for i, x in zip(batch.index, batch.x, strict=True)}
        assert any(
            not torch.equal(one[int(i)], x) for i, x in zip(other[0].index, other[0].x, strict=True) if int(i) in one
        )


def test_start_leaves_out_the_first_batches_and_changes_nothing_else(data: Data) -> None:
    assert same(epoch(data)[3:], epoch(data, start=3))
    assert epoch(data, start=99) == []


def test_an_image_is_varied_the_same_in_any_batch(data: Data) -> None:
    """The same sample alone, in eights and in one big batch, in another order."""
    small = {int(i): x for batch in epoch(data) for i, x in zip(batch.index, batch.x, strict=True)}
    for options in ({"batch_size": 1}, {"batch_size": 64, "shuffle": False}):
        for batch in epoch(data, **options):
            for i, x in zip(batch.index, batch.x, strict=True):
                if int(i) in small:
                    assert torch.equal(small[int(i)], x)


def test_workers_change_nothing(data: Data) -> None:
    assert same(epoch(data), epoch(data, workers=2))


def test_the_global_generator_is_left_alone(data: Data) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    epoch(data)
    assert torch.equal(before, torch.get_rng_state())


def test_an_epoch_holds_every_image_once(data: Data) -> None:
    count = len(data.train)
    dropped, kept = epoch(data), epoch(data, drop_last=False)
    assert len(dropped) == count // 8 == batch_count(count, 8)
    assert len(kept) == batch_count(count, 8, drop_last=False) == -(-count // 8)
    assert sorted(torch.cat([batch.index for batch in kept]).tolist()) == list(range(count))
    assert all(torch.equal(batch.y, data.train.labels[batch.index]) for batch in kept)


def test_fewer_images_than_a_batch_make_one_batch(data: Data) -> None:
    (only,) = epoch(data, batch_size=1000)
    assert len(only.y) == len(data.train) and batch_count(len(data.train), 1000) == 1


def test_evaluation_sees_what_one_image_alone_gives(data: Data, root: Path) -> None:
    """Arrays, files and a single picture go through the same resize and crop."""
    found = list(evaluation_batches(data.val, data.preprocess, batch_size=5))
    assert torch.cat([batch.index for batch in found]).tolist() == list(range(len(data.val)))
    x = torch.cat([batch.x for batch in found])
    assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
    pictured = {path: data.preprocess.image(Image.open(path)) for path in root.rglob("*.png")}
    alone = data.preprocess.normalise(torch.stack(list(pictured.values())))
    distances = (x[:, None] - alone[None]).abs().amax((2, 3, 4))
    assert distances.amin(1).max() == 0
    wanted = [list(pictured)[int(place)].parent.name for place in distances.argmin(1)]
    assert [data.classes[int(label)] for label in data.val.labels] == wanted


def test_statistics_are_of_all_classes_of_images_that_stand_class_by_class(tmp_path: Path) -> None:
    labels = np.repeat([0, 1], 2_500)
    pixels = np.broadcast_to((200 * labels)[:, None, None, None], (5_000, 8, 8, 3)).astype(np.uint8)
    write_npz(tmp_path / "a.npz", (pixels, labels), (pixels[::100], labels[::100]))
    data = load(tmp_path / "a.npz")
    assert data.preprocess.mean == pytest.approx((100 / 255,) * 3, abs=0.01)


def test_training_images_are_normalised_by_their_own_statistics(data: Data) -> None:
    x = torch.cat([batch.x for batch in evaluation_batches(data.train, data.preprocess)])
    assert x.mean((0, 2, 3)).abs().max() < 0.01 and (x.std((0, 2, 3)) - 1).abs().max() < 0.01


def test_files_are_cropped_by_the_box_drawn_for_each(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "FILES_IN_MEMORY", 0)
    data = load(root, size=24)
    assert isinstance(data.train, FileImages)
    augment = Augment(flip=False, random_resized=True)
    crops = augment.table(len(data.train), 0, 0)["crop"]
    for batch in batches(data.train, data.preprocess, batch_size=16, seed=0, epoch=0, augment=augment):
        for i, x in zip(batch.index.tolist(), batch.x, strict=True):
            left, top, right, bottom = crop_boxes(crops[i : i + 1], 80, 80)[0].tolist()
            image = Image.open(data.train.paths[i])
            cut = image.resize((24, 24), Image.Resampling.BILINEAR, (left, top, min(right, 80), min(bottom, 80)))
            pixels = torch.from_numpy(np.array(cut)).permute(2, 0, 1)[None]
            torch.testing.assert_close(x[None], data.preprocess.normalise(pixels))


def test_a_file_that_disappears_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "FILES_IN_MEMORY", 0)
    root = write_folder(tmp_path / "data", *pictures(30))
    data = load(root)
    assert isinstance(data.train, FileImages)
    data.train.paths[0].unlink()
    with pytest.raises(SinglepathError, match="any more"):
        list(evaluation_batches(data.train, data.preprocess))


def test_subset_and_join(data: Data) -> None:
    part = data.train.subset([5, 2])
    assert torch.equal(part.labels, data.train.labels[[5, 2]])
    assert len(part + data.val) == 2 + len(data.val)
    assert part.fingerprint() != data.train.subset([2, 5]).fingerprint()
    other: Images = FileImages((Path("a"),), torch.zeros(1))
    if isinstance(data.train, FileImages):
        other = ArrayImages(torch.zeros(1, 3, 4, 4), torch.zeros(1))
    with pytest.raises(TypeError):
        operator.add(data.train, other)
