"""Recipes: how a network is trained. A recipe is a frozen value; the named ones are the three below.

`base` is without tricks, `full` with them, so that a result can be reported both ways (arXiv 1912.12522, best practice
1). The short warm-up of `base` is no trick: without it supernets diverged in their first steps (a loss of 9).

`single-path` is the final training of Single-Path NAS' release (arXiv 1904.02877; github.com/dstamoulis/single-path-nas
@21c1f3e): RMSProp, 350 epochs, lr 0.016 batch / 256 after 5 epochs of warm-up from 0, x0.97 every 2.4 epochs, area
crops from 0.08, EMA 0.9999. In fewer epochs the stairs shrink with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from singlepath.data import Augment, Data
from singlepath.errors import unknown

__all__ = ["RECIPES", "Recipe", "get_recipe", "learning_rate"]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        lr: peak learning rate at `batch_size`; a data set smaller than 16 batches an epoch gets smaller batches.
        lr_scaling: how the learning rate follows another batch size, "sqrt" or "linear".
        schedule: "cosine" to zero, or "exponential" (x0.97 every 2.4 epochs of 350, stairs).
        warm_up: epochs of linear warm-up, at most a tenth of the training.
        warm_up_from: share of `lr` that the warm-up begins at.
        ema: decay of the weights' exponential moving average, 0 for none; the average is what is kept.
        bn_momentum: weight of the newest batch in BN's running statistics (PyTorch's sense).
        min_area: smallest box of the random resized crops that images above 64 px get, as a fraction of the image.
        mixup: alpha of the Beta distribution, 0 for none (arXiv 1710.09412).
    """

    name: str
    epochs: int
    batch_size: int
    lr: float
    lr_scaling: str = "sqrt"
    optimiser: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 4e-5
    schedule: str = "cosine"
    warm_up: float = 0.0
    warm_up_from: float = 0.1
    label_smoothing: float = 0.0
    dropout: float = 0.0
    ema: float = 0.0
    mixup: float = 0.0
    bn_momentum: float = 0.1
    randaugment: int = 0
    magnitude: float = 9.0
    erase: float = 0.0
    min_area: float = 0.35

    def augment(self, data: Data) -> Augment:
        """Flips and crops that suit the images, and the recipe's tricks.

        Images up to 64 px are shifted by an eighth of their side (4 px at 32), or, where they are stored larger than
        the input, cropped at random; inputs above 64 px get random resized crops.
        """
        size, stored = data.preprocess.size, data.preprocess.resize
        small = size <= 64
        shifted, window = (0, (size, stored)) if stored > size else (size // 8, (0, 0))
        return Augment(
            flip=data.flip, crop_padding=shifted if small else 0, random_resized=not small,
            min_area=self.min_area, window=window if small else (0, 0), randaugment_ops=self.randaugment,
            magnitude=self.magnitude, erase=self.erase,
        )  # fmt: skip

    def fitted(self, images: int, epochs: int | None = None, batch_size: int | None = None) -> Recipe:
        """The recipe for a number of training images: at least 16 batches an epoch where there are enough images.

        The learning rate follows the batch size as `lr_scaling` says.
        """
        batch = batch_size or self.batch_size
        while batch_size is None and batch > 32 and images // batch < 16:
            batch //= 2
        share = batch / self.batch_size
        lr = self.lr * (share if self.lr_scaling == "linear" else math.sqrt(share))
        return replace(self, epochs=epochs or self.epochs, batch_size=batch, lr=lr)


RECIPES: dict[str, Recipe] = {
    "base": Recipe("base", epochs=30, batch_size=128, lr=0.1, weight_decay=5e-4, warm_up=1),
    "full": Recipe(
        "full", epochs=60, batch_size=128, lr=0.1, weight_decay=5e-4, warm_up=3, label_smoothing=0.1, dropout=0.2,
        ema=0.999, mixup=0.2, randaugment=2, magnitude=7.0, erase=0.1,
    ),
    "single-path": Recipe(
        "single-path", epochs=350, batch_size=1024, lr=0.064, lr_scaling="linear", optimiser="rmsprop",
        weight_decay=1e-5, schedule="exponential", warm_up=5, warm_up_from=0.0, label_smoothing=0.1, dropout=0.2,
        ema=0.9999, bn_momentum=0.01, min_area=0.08,
    ),
}  # fmt: skip


def get_recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES, "--recipe")
    return RECIPES[name]


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of a step: linear warm-up, then the schedule over all epochs."""
    epoch, total = step / steps_per_epoch, recipe.epochs
    warm_up = min(recipe.warm_up, total / 10)
    if epoch < warm_up:
        start = recipe.warm_up_from
        return recipe.lr * (start + (1 - start) * epoch / warm_up)
    if recipe.schedule == "exponential":
        stair = 2.4 * min(1.0, total / 350)
        return recipe.lr * 0.97 ** math.floor(epoch / stair)
    return 0.5 * recipe.lr * (1 + math.cos(math.pi * (epoch - warm_up) / max(total - warm_up, 1e-9)))
