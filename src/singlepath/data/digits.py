"""The built-in data: scikit-learn's 1,797 handwritten digits, 8x8 px, shipped inside that package."""

from __future__ import annotations

import numpy as np

from singlepath.errors import optional

from .source import ArrayPart, Source

__all__ = ["read"]


def read() -> Source:
    """Ten classes, grey; 32 px unless another size is asked for.

    Raises:
        UserError: scikit-learn is not installed; names the extra.
    """
    bunch = optional("sklearn.datasets", "search").load_digits()
    pixels = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    part = ArrayPart(pixels, bunch.target.astype(np.int64))
    return Source("digits", tuple(map(str, bunch.target_names)), part, flip=False, size=32)
