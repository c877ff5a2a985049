"""What the user sees while something runs: one bar with epoch, loss, expected cost against the budget and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["note", "progress", "shown", "timing_progress"]

SHOW: ContextVar[bool] = ContextVar("show", default=False)
CONSOLE = Console(file=sys.stderr, highlight=False)
LINES_EVERY = 15.0  # seconds between lines where there is no terminal


@contextmanager
def shown(show: bool = True) -> Iterator[None]:
    """Within it, progress is shown on standard error; the Python API is silent by default."""
    token = SHOW.set(show)
    try:
        yield
    finally:
        SHOW.reset(token)


def note(text: str) -> None:
    if SHOW.get():
        CONSOLE.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress(title: str, target: str = "") -> Iterator[Callable[[str, int, int, Mapping[str, float]], None]]:
    """A reporter for `training.fit`: (tag, done, total, values)."""
    if not SHOW.get():
        yield lambda tag, done, total, values: None
        return
    if not CONSOLE.is_terminal:
        yield _lines(title, target)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=CONSOLE) as bar:
        tasks: dict[str, TaskID] = {}

        def report(tag: str, done: int, total: int, values: Mapping[str, float]) -> None:
            if tag not in tasks:
                tasks[tag] = bar.add_task(title)
            task = tasks[tag]
            text = f"{title} {_words(tag, values, target)}"
            bar.update(task, total=total, completed=done, description=text)

        yield report


def _words(tag: str, values: Mapping[str, float], target: str) -> str:
    parts = [f"epoch {values['epoch']:.0f}/{values['epochs']:.0f}"] if "epoch" in values else [tag]
    parts += [f"loss {values['loss']:.3f}"] if "loss" in values else []
    parts += [f"accuracy {values['accuracy']:.3f}"] if "accuracy" in values else []
    parts += [f"expected {values['expected_cost']:.4g} of {target}"] if "expected_cost" in values else []
    return ", ".join(parts)


def _lines(title: str, target: str) -> Callable[[str, int, int, Mapping[str, float]], None]:
    started = last = time.monotonic()

    def report(tag: str, done: int, total: int, values: Mapping[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < (LINES_EVERY if done < total else 1.0):
            return
        last = now
        left = (now - started) / max(done, 1) * (total - done)
        CONSOLE.print(
            f"{title}: {done}/{total} {_words(tag, values, target)}, {left:.0f} s left", markup=False, soft_wrap=True
        )

    return report


@contextmanager
def timing_progress(title: str) -> Iterator[Callable[[str, float], None]]:
    """A reporter for measurements: (text, share done)."""
    with progress(title) as report:
        yield lambda text, share: report(text, round(1000 * share), 1000, {})
