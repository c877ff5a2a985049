"""Training one plain network, and measuring its accuracy."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from singlepath.architecture import NetworkSpec
from singlepath.blocks import Network, build
from singlepath.data import Batch, Data, Images, Preprocess, batch_count, batches, evaluation_batches
from singlepath.data.splits import generator
from singlepath.runs import Run
from singlepath.training.loop import Progress, fit, quiet
from singlepath.training.optim import OPTIMISERS, whole
from singlepath.training.recipe import Recipe, learning_rate

__all__ = ["accuracy", "autocast", "cross_entropy", "evaluate", "image_losses", "prepare", "train_network"]


M = TypeVar("M", bound=nn.Module)


def autocast(device: torch.device | str) -> torch.autocast:
    """bf16 on a GPU; nothing on the CPU, where it was slower."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda")


def prepare(network: M, recipe: Recipe) -> M:
    """Set what the recipe says of the network itself: dropout and BN momentum."""
    for part in network.modules():
        if isinstance(part, nn.Dropout):
            part.p = recipe.dropout
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = recipe.bn_momentum
    return network


def cross_entropy(logits: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(logits.float(), y, label_smoothing=smoothing)


def mixed_loss(network: nn.Module, batch: Batch, recipe: Recipe, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """(loss, logits) of a batch, mixed with its own reverse where the recipe has mixup."""
    if not recipe.mixup:
        logits = network(batch.x)
        return cross_entropy(logits, batch.y, recipe.label_smoothing), logits
    share = float(generator(seed, "mixup", step).beta(recipe.mixup, recipe.mixup))
    logits = network(share * batch.x + (1 - share) * batch.x.flip(0))
    both = [cross_entropy(logits, y, recipe.label_smoothing) for y in (batch.y, batch.y.flip(0))]
    return share * both[0] + (1 - share) * both[1], logits


def train_network(
    spec: NetworkSpec, data: Data, recipe: Recipe, *, seed: int = 0, run: Run | None = None, tag: str = "train",
    images: Images | None = None, network: Network | None = None, device: str = "cpu", workers: int = 0,
    progress: Progress = quiet, checkpoint_seconds: float = 30.0,
) -> Network:  # fmt: skip
    """Train a network on all training data (held-out part included) and return the last epoch's weights.

    Args:
        recipe: as `Recipe.fitted` gives it.
        network: weights to start from; fresh ones, a function of `seed`, by default.
        images: what to train on instead.

    The average weights are returned where the recipe keeps them. No epoch is picked on any data.
    """
    images = images if images is not None else data.all_train
    trained = prepare(network or build(spec, seed), recipe).to(device).train()
    steps = batch_count(len(images), recipe.batch_size)
    state: dict[str, Any] = {"model": trained, "optimiser": {}, "step": 0}
    if recipe.ema:
        state["average"] = copy.deepcopy(trained)
    parts, update, augment = whole(trained), OPTIMISERS[recipe.optimiser], recipe.augment(data)

    def step(state: dict[str, Any], batch: Batch) -> dict[str, float | Tensor]:
        if recipe.dropout:
            torch.manual_seed(int(generator(seed, "dropout", state["step"]).integers(2**62)))
        with autocast(device):
            loss, logits = mixed_loss(trained, batch, recipe, seed, state["step"])
        trained.zero_grad(set_to_none=True)
        loss.backward()
        lr = learning_rate(recipe, state["step"], steps)
        update(parts, state["optimiser"], lr, momentum=recipe.momentum, decay=recipe.weight_decay)
        if recipe.ema:
            average(state["average"], trained, recipe.ema, state["step"])
        return {"loss": loss.detach(), "accuracy": accuracy(logits.detach(), batch.y)}

    def epoch_batches(epoch: int, start: int) -> Iterable[Batch]:
        return batches(
            images, data.preprocess, batch_size=recipe.batch_size, seed=seed, epoch=epoch, augment=augment, start=start,
            workers=workers, device=device,
        )  # fmt: skip

    fit(
        state, step, epoch_batches, epochs=recipe.epochs, steps_per_epoch=steps, tag=tag, run=run, progress=progress,
        checkpoint_seconds=checkpoint_seconds,
    )  # fmt: skip
    return state["average" if recipe.ema else "model"].eval()


@torch.no_grad()
def average(mean: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """mean = d mean + (1 - d) network with d = min(decay, (1 + step) / (10 + step)); BN statistics too."""
    d = min(decay, (1 + step) / (10 + step))
    for a, b in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - d)
        else:
            a.copy_(b)


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(1) == y).float().mean()


@torch.no_grad()
def evaluate(
    network: nn.Module, images: Images, preprocess: Preprocess, *, classes: int, device: str = "cpu", workers: int = 0
) -> dict[str, Any]:
    """Accuracy in [0, 1], cross-entropy, per-class accuracy and counts, and the confusion matrix (rows: true class)."""
    network = network.eval().to(device)
    confusion, loss, count = torch.zeros(classes, classes, dtype=torch.int64), 0.0, 0
    for batch in evaluation_batches(images, preprocess, batch_size=256, workers=workers, device=device):
        logits = network(batch.x)  # in full precision, as it is exported
        loss += float(F.cross_entropy(logits, batch.y, reduction="sum"))
        count += len(batch.y)
        pairs = (batch.y * classes + logits.argmax(1)).cpu()
        confusion += torch.bincount(pairs, minlength=classes * classes).view(classes, classes)
    total = confusion.sum(1)
    return {
        "accuracy": float(confusion.diagonal().sum()) / max(count, 1), "cross_entropy": loss / max(count, 1),
        "per_class": (confusion.diagonal() / total.clamp(min=1)).tolist(), "counts": total.tolist(),
        "confusion": confusion.tolist(), "images": count,
    }  # fmt: skip


@torch.no_grad()
def image_losses(network: nn.Module, held_out: list[Batch]) -> Tensor:
    """Cross-entropy of every image of batches that are already in memory, eval mode; [N] on the CPU."""
    network.eval()
    losses = [F.cross_entropy(network(b.x).float(), b.y, reduction="none") for b in held_out]
    return torch.cat(losses).cpu()
