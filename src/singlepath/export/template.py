"""A network that labels images, in PyTorch alone. It is yours: read it, edit it, train it further.
Its weights are in model.safetensors, beside this file.

On the command line (this needs Pillow as well):  #: pictures
  #: pictures
    python model.py IMAGE...  #: pictures
  #: pictures
From Python, for pixels 0..255 [N, channels, size, size] as PREPROCESS says:

    from model import load

    network = load()
    logits = network(pixels)  # [N, classes]
"""

from __future__ import annotations

import json
import math
import sys  #: pictures
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: begin values
CLASSES = ["cat", "dog"]
PREPROCESS = {"size": 32, "resize": 36, "channels": 3, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}

STEM_CHANNELS, STEM_STRIDE, HEAD_CHANNELS = 16, 1, 64
ACTIVATION, BN_EPS = "relu", 1e-5
STAGES = [
    [("ds", 16, 16, 16, 3, 1, 0, False, "relu")],
    [("ir", 16, 48, 24, 5, 2, 4, False, "relu"), ("ir", 24, 72, 24, 3, 1, 6, True, "relu")],
    [("id", 24, 24, 40, 1, 2, 0, False, "relu")],
]
#: end
WEIGHTS = Path(__file__).with_name("model.safetensors")


class Block(NamedTuple):
    """A row of STAGES."""

    kind: str  # a key of BLOCKS
    cin: int  # channels of its input,
    mid: int  # inside
    cout: int  # and of its output
    kernel: int
    stride: int
    se: int  # channels of the squeeze-and-excitation path, 0 for none  #: se
    residual: bool  # whether its input is added to its output
    activation: str  # in torch.nn.functional


#: begin same
class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: where it is odd, the extra pixel is at the bottom and the right."""

    def forward(self, input: Tensor) -> Tensor:
        top, left = (
            max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
            for side, stride, kernel in zip(input.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        return super().forward(F.pad(input, (left // 2, left - left // 2, top // 2, top - top // 2)))


#: end
def conv(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that divides height and width by its stride, rounded up."""
    if stride > 1:  #: same
        return SameConv2d(cin, cout, kernel, stride, groups=groups, bias=False)  #: same
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, BN_EPS)


#: begin se
class SqueezeExcite(nn.Module):
    """Weighs every channel by what the whole image holds."""

    def __init__(self, channels: int, reduced: int):
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, reduced, 1)
        self.conv_expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = F.relu(self.conv_reduce(x.mean((2, 3), keepdim=True)))
        return x * self.conv_expand(squeezed).sigmoid()


#: end
#: begin ds
class DepthwiseSeparable(nn.Module):
    """Depthwise convolution, then 1x1 convolution."""

    def __init__(self, b: Block):
        super().__init__()
        self.conv_dw = conv(b.cin, b.cin, b.kernel, b.stride, groups=b.cin)
        self.bn1 = norm(b.cin)
        self.se = SqueezeExcite(b.cin, b.se) if b.se else nn.Identity()  #: se
        self.conv_pw = conv(b.cin, b.cout)
        self.bn2 = norm(b.cout)
        self.residual, self.activate = b.residual, getattr(F, b.activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activate(self.bn1(self.conv_dw(x)))
        y = self.se(y)  #: se
        y = self.bn2(self.conv_pw(y))
        return x + y if self.residual else y


#: end
#: begin ir
class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise convolution, 1x1 convolution back."""

    def __init__(self, b: Block):
        super().__init__()
        self.conv_pw = conv(b.cin, b.mid)
        self.bn1 = norm(b.mid)
        self.conv_dw = conv(b.mid, b.mid, b.kernel, b.stride, groups=b.mid)
        self.bn2 = norm(b.mid)
        self.se = SqueezeExcite(b.mid, b.se) if b.se else nn.Identity()  #: se
        self.conv_pwl = conv(b.mid, b.cout)
        self.bn3 = norm(b.cout)
        self.residual, self.activate = b.residual, getattr(F, b.activation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activate(self.bn1(self.conv_pw(x)))
        y = self.activate(self.bn2(self.conv_dw(y)))
        y = self.se(y)  #: se
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.residual else y


#: end
#: begin id
class Reduction(nn.Module):
    """No block, but a change of shape: 1x1 convolution with a stride, taken before it.

    A strided one is the same, but oneDNN 3.12 damages the heap when it is trained on several CPU threads.
    """

    def __init__(self, b: Block):
        super().__init__()
        self.stride = b.stride
        self.conv = conv(b.cin, b.cout, b.kernel)
        self.bn = norm(b.cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x[:, :, :: self.stride, :: self.stride]))


#: end
BLOCKS = {
    "ds": DepthwiseSeparable,  #: ds
    "ir": InvertedResidual,  #: ir
    "id": Reduction,  #: id
}


class Network(nn.Module):
    """Pixels 0..255 [N, channels, size, size], bytes or floats -> logits [N, classes]."""

    mean: Tensor
    std: Tensor

    def __init__(self):
        super().__init__()
        for name in ("mean", "std"):
            value = torch.tensor(PREPROCESS[name]).view(1, -1, 1, 1)
            self.register_buffer(name, value, persistent=False)
        self.conv_stem = conv(PREPROCESS["channels"], STEM_CHANNELS, 3, STEM_STRIDE)
        self.bn1 = norm(STEM_CHANNELS)
        self.blocks = nn.Sequential(
            *(nn.Sequential(*(BLOCKS[row[0]](Block(*row)) for row in stage)) for stage in STAGES)
        )
        self.conv_head = conv(STAGES[-1][-1][3], HEAD_CHANNELS)
        self.bn2 = norm(HEAD_CHANNELS)
        self.classifier = nn.Linear(HEAD_CHANNELS, len(CLASSES))
        self.activate = getattr(F, ACTIVATION)

    def forward(self, pixels: Tensor) -> Tensor:
        x = (pixels.float() / 255 - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)  # about twice as fast on a CPU
        x = self.activate(self.bn1(self.conv_stem(x)))
        x = self.blocks(x)
        x = self.activate(self.bn2(self.conv_head(x)))
        return self.classifier(x.mean((2, 3)))


def load(weights: str | Path = WEIGHTS) -> Network:
    """The network with its weights, in evaluation mode."""
    network = Network()
    network.load_state_dict(read_safetensors(weights))
    return network.eval()


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file: 8 bytes that say how long the header is, the header in JSON, the values."""
    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > 100_000_000:
            raise ValueError(f"{path} is not a safetensors file")
        header = json.loads(file.read(length))
        values = bytearray(file.read())
    header.pop("__metadata__", None)
    return {
        name: torch.frombuffer(
            values, dtype=types[entry["dtype"]], offset=entry["data_offsets"][0], count=math.prod(entry["shape"])
        ).view(entry["shape"])
        for name, entry in header.items()
    }


#: begin pictures
def read_picture(path: str) -> Tensor:
    """An image file as the network takes it, bytes [channels, size, size]: its centre square, resized."""
    from PIL import Image, ImageOps

    image = Image.open(path, formats=["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM"])
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # 16-bit grey: keep the upper byte
        upper = 0 if image.mode.endswith("B") else 1
        image = Image.frombytes("L", image.size, image.tobytes()[upper::2])
    elif image.mode == "I":  # the same, in other formats
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    elif image.mode in ("F", "LAB"):
        raise OSError(f"pixels of kind {image.mode} have no range of 0 to 255")
    image = image.convert("RGB" if PREPROCESS["channels"] == 3 else "L")
    longest = 8 * min(image.size)  # enlarged whole, a thin picture would take gigabytes
    left, top = (max(0, side - longest) // 2 for side in image.size)
    image = image.crop((left, top, image.width - left, image.height - top))
    resize, size = PREPROCESS["resize"], PREPROCESS["size"]
    scale = resize / min(image.size)
    image = image.resize([max(resize, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
    for side in (resize, size):
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(size, size, -1).permute(2, 0, 1)


def main(files: list[str]) -> None:
    if not files:
        sys.exit("usage: python model.py IMAGE...")
    try:
        network = load()
    except OSError as error:
        sys.exit(f"cannot read the weights: {error}")
    unread = []
    for file in files:
        try:
            picture = read_picture(file)
        except ImportError:
            sys.exit("Image files need Pillow: pip install pillow")
        except Exception as error:  # decoders raise nearly anything on damaged files
            unread.append(f"cannot read {file}: {' '.join(str(error).split())}")
            continue
        with torch.inference_mode():
            probabilities = network(picture[None]).softmax(1)[0]
        best = int(probabilities.argmax())
        print(f"{file}\t{CLASSES[best]}\t{probabilities[best]:.1%}")
    if unread:
        sys.exit("\n".join(unread))


if __name__ == "__main__":
    main(sys.argv[1:])
#: end
