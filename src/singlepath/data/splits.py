"""Seeded random generators, and stratified subsets of labelled images."""

from __future__ import annotations

import zlib

import numpy as np

__all__ = ["generator", "stratified"]


def generator(seed: int, purpose: str, epoch: int = 0) -> np.random.Generator:
    """A generator that is a function of its arguments alone; different purposes give independent streams."""
    words = [seed % 2**64, zlib.crc32(purpose.encode()), epoch]
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def stratified(
    labels: np.ndarray, count: int, random: np.random.Generator, *, least: int = 1, leave: int = 0
) -> np.ndarray:
    """`count` random positions of `labels` [N], ascending, every class in proportion to its size.

    Every class gives at least `least` and keeps at least `leave` of its own where it has that many; where these bounds
    cannot all be met the number returned differs from `count`.
    """
    values, sizes = np.unique(labels, return_counts=True)
    shares = _shares(sizes, count, least, leave)
    order = random.permutation(len(labels))
    chosen = [order[labels[order] == value][:share] for value, share in zip(values, shares, strict=True)]
    return np.sort(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)


def _shares(sizes: np.ndarray, count: int, least: int, leave: int) -> np.ndarray:
    """How many each class gives: proportional, largest remainders first, inside the bounds."""
    most = np.maximum(sizes - leave, 0)
    floor = np.minimum(least, most)
    exact = count * sizes / max(sizes.sum(), 1)
    shares = np.clip(np.floor(exact).astype(np.int64), floor, most)
    while shares.sum() < count and (shares < most).any():
        shares[np.where(shares < most, exact - shares, -np.inf).argmax()] += 1
    while shares.sum() > count and (shares > floor).any():
        shares[np.where(shares > floor, exact - shares, np.inf).argmin()] -= 1
    return shares
