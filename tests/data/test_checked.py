"""Large folders are decoded to find corrupt files once, not by every command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from singlepath.data import FileImages, decode, load
from singlepath.data.pictures import Raw

from .conftest import pictures, write_folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Raw]:
    """What was decoded to see whether it can be, of folders that count as large."""
    seen: list[Raw] = []
    original = decode._readable

    def readable(raw: Raw) -> bool:
        seen.append(raw)
        return original(raw)

    monkeypatch.setattr(decode, "_readable", readable)
    monkeypatch.setattr(decode, "FILES_IN_MEMORY", 0)
    return seen


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_folder(root / "train", *pictures(210))
    write_folder(root / "test", *pictures(12))
    (root / "train" / "bee" / "0001.png").write_bytes(b"")
    return root


def test_a_second_command_decodes_only_what_was_corrupt(root: Path, cache: Path, decoded: list[Raw]) -> None:
    first = load(root)
    assert isinstance(first.train, FileImages) and len(decoded) == 210
    decoded.clear()
    again = load(root)
    assert decoded == [root / "train" / "bee" / "0001.png"]
    assert again.skipped == first.skipped == ["train/bee/0001.png"]
    assert again.fingerprint == first.fingerprint
    other = load(root, seed=1, limit=100)  # another split of the same files
    assert len(decoded) <= 2 and len(other.all_train) >= 99
    (file,) = cache.iterdir()
    assert file.stat().st_size < 200


def test_a_changed_folder_is_looked_at_again(root: Path, cache: Path, decoded: list[Raw]) -> None:
    load(root)
    decoded.clear()
    (root / "train" / "ant" / "0000.png").write_bytes(b"not a picture")
    assert sorted(load(root).skipped) == ["train/ant/0000.png", "train/bee/0001.png"]
    assert len(decoded) == 210
    os.utime(root / "train" / "ant" / "0003.png", (1, 1))
    load(root)
    assert len(decoded) == 420
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fine": 1}', '{"fine": "zz"}', '{"fine": "ff"}', "\0"])
def test_a_damaged_cache_is_no_cache(text: str, root: Path, cache: Path, decoded: list[Raw]) -> None:
    load(root)
    (file,) = cache.iterdir()
    file.write_text(text)
    decoded.clear()
    assert load(root).skipped == ["train/bee/0001.png"]
    assert len(decoded) == 210


def test_a_cache_that_cannot_be_written_is_done_without(
    root: Path, tmp_path: Path, decoded: list[Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert load(root).skipped == ["train/bee/0001.png"]
    assert len(decoded) == 420


def test_the_cache_keeps_few_files_and_small_folders_none(root: Path, cache: Path, decoded: list[Raw]) -> None:
    cache.mkdir()
    for number in range(40):
        (cache / f"checked-{number}.json").write_text("{}")
        os.utime(cache / f"checked-{number}.json", (number, number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "FILES_IN_MEMORY", 2**30)
        load(root)
    assert len(list(cache.iterdir())) == 40
    load(root)
    names = {file.name for file in cache.iterdir()}
    assert len(names) == 32 and "checked-39.json" in names and "checked-0.json" not in names
