"""One image on its way to the network."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from singlepath.data import Preprocess

RGB = Preprocess(8, 10, (0.1, 0.2, 0.3), (0.5, 0.25, 0.2), 3)


def test_dictionary_survives_json() -> None:
    assert Preprocess.from_dict(json.loads(json.dumps(RGB.as_dict()))) == RGB


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        Preprocess(32, 16, (0.5,), (0.5,), 1)
    with pytest.raises(ValueError, match="3 values"):
        Preprocess(8, 8, (0.5,), (0.5,), 3)
    with pytest.raises(ValueError, match="positive"):
        Preprocess(8, 8, (0.5,), (0.0,), 1)


def test_the_centre_is_cropped_after_the_shorter_edge_is_resized() -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = 200  # the middle third is a square
    out = RGB.image(Image.fromarray(wide))
    assert out.shape == (3, 8, 8) and out.dtype == torch.uint8
    assert bool((out == 200).all())
    assert RGB.image(Image.fromarray(wide.transpose(1, 0, 2))).eq(200).all()


@pytest.mark.parametrize("length", [20_000, 20_001])
def test_a_thin_picture_is_not_enlarged_whole(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    thin = np.zeros((2, length, 3), dtype=np.uint8)
    thin[:, length // 2 - 9 : length // 2 + 9] = 200
    areas, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda i, size, *a: areas.append(size[0] * size[1]) or resize(i, size, *a)
    )
    square = Preprocess(200, 224, RGB.mean, RGB.std, 3).square  # 224 x 2.2 million pixels, whole
    for pixels in (thin, thin.transpose(1, 0, 2)):
        assert (square(Image.fromarray(pixels)) == 200).all()
    assert len(areas) == 2 and max(areas) < 1_000_000


def test_exif_orientation_is_applied() -> None:
    import io

    pixels = np.zeros((10, 10, 3), dtype=np.uint8)
    pixels[:, :5] = 250  # bright left
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter clockwise: bright on top
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    out = RGB.image(Image.open(buffer)).float()
    assert out[:, :3].mean() > 200 and out[:, -3:].mean() < 50


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_the_channels_asked_for(mode: str, channels: int) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((12, 12), 200 * 256, dtype=np.uint16))
    elif mode == "I":  # a 16-bit PGM, or a TIFF of whole numbers
        image = Image.fromarray(np.full((12, 12), 200 * 256, dtype=np.int32))
    else:
        image = Image.new("RGB", (12, 12), (200, 200, 200)).convert("L" if mode == "LA" else "RGB").convert(mode)
    preprocess = Preprocess(8, 8, (0.5,) * channels, (0.5,) * channels, channels)
    out = preprocess.image(image)
    assert out.shape == (channels, 8, 8)
    tolerance = {"1": 255, "P": 16}.get(mode, 1)  # black and white, and a palette, are dithered
    assert (out.float() - 200).abs().max() <= tolerance


def test_normalise() -> None:
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    out = RGB.normalise(pixels)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (RGB.mean, RGB.std))
    torch.testing.assert_close(out, (pixels / 255 - mean) / std, atol=1e-5, rtol=0)
    assert out.is_contiguous(memory_format=torch.channels_last)
