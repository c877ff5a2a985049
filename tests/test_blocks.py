"""What the plain blocks promise beside their counts: a strided 1x1 convolution that can be trained on any threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from singlepath.blocks import Conv2d

TRAINED = """
import torch
from singlepath.blocks import Conv2d
torch.set_num_threads(3)
for images, side, cin, cout in [(8, 16, 8, 16), (5, 32, 12, 40), (64, 32, 16, 24)]:
    conv = Conv2d(cin, cout, 1, 2)
    for _ in range(5):
        x = torch.randn(images, cin, side, side).to(memory_format=torch.channels_last)
        conv(x).square().mean().backward()
"""


@pytest.mark.parametrize("side", [15, 16])
def test_a_strided_1x1_convolution_is_what_torch_makes_of_it(side: int) -> None:
    conv = Conv2d(3, 5, 1, 2).double()
    x = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    ours, theirs = conv(x), F.conv2d(x, conv.weight, stride=2)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    with torch.no_grad():
        assert torch.allclose(conv(x), theirs, rtol=1e-12)
    for wanted in (x, conv.weight):
        a, b = (torch.autograd.grad(y.square().sum(), wanted, retain_graph=True)[0] for y in (ours, theirs))
        assert torch.allclose(a, b, rtol=1e-12)


@pytest.mark.skipif(sys.platform != "linux", reason="the checking allocator is glibc's")
def test_training_one_on_threads_that_share_the_images_unevenly_leaves_the_heap_whole() -> None:
    checked = {"LD_PRELOAD": "libc_malloc_debug.so.0", "GLIBC_TUNABLES": "glibc.malloc.check=3"}
    done = subprocess.run([sys.executable, "-c", TRAINED], env=os.environ | checked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
