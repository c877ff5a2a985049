"""Run folders as the pipeline writes them, made up but consistent."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

SMALL = [(1, 16, 1, 1), (3, 24, 2, 3), (3, 40, 2, 3), (3, 80, 2, 3)]
MOBILE = [(1, 16, 1, 1), (4, 24, 2, 6), (4, 40, 2, 6), (4, 80, 2, 6), (4, 96, 1, 6), (4, 192, 2, 6), (1, 320, 1, 6)]
DIGITS = [str(i) for i in range(10)]


def blocks(stages: list[tuple[int, int, int, int]], side: int, seed: int) -> list[dict[str, Any]]:
    """Every position of a space, the way result.json lists them."""
    rng = random.Random(seed)
    rows: list[dict[str, Any]] = []
    inside = 16
    for stage, (count, channels, stride, _) in enumerate(stages):
        for index in range(count):
            step = stride if index == 0 else 1
            searchable = count > 1
            skip = searchable and index > 0 and rng.random() < 0.34
            kernel, expansion = (rng.choice([3, 5]), rng.choice([3.0, 6.0])) if searchable else (3, 1.0)
            token = "skip" if skip else f"k{kernel}_e{expansion:g}"
            kind = "skip" if skip else "ir" if searchable else "ds"
            cost = 0.0 if skip else 2e-6 * inside * expansion * (kernel**2 + channels) * math.sqrt(side) + 0.01
            rows.append(
                {
                    "name": f"{stage}.{index}",
                    "stage": stage,
                    "token": token,
                    "kind": kind,
                    "kernel": 0 if skip else kernel,
                    "expansion": 0.0 if skip else expansion,
                    "se": 0.25 if stage == 3 and not skip else 0.0,
                    "in_channels": inside,
                    "out_channels": channels,
                    "stride": step,
                    "side": side,
                    "cost": cost,
                    "searchable": searchable,
                }
            )
            inside, side = channels, -(-side // step)
    return rows


def result(
    stages: list[tuple[int, int, int, int]] = SMALL,
    side: int = 32,
    classes: list[str] | None = None,
    seed: int = 1,
    gain: float = 0.012,
    test: int = 360,
) -> dict[str, Any]:
    """A complete design's result."""
    rng = random.Random(seed + 7)
    names = DIGITS if classes is None else classes
    rows = blocks(stages, side, seed)
    rest = 0.21
    predicted = rest + sum(b["cost"] for b in rows)
    budget = predicted * 1.035
    networks = [
        {
            "string": " | ".join(b["token"] for b in rows),
            "predicted": budget * rng.uniform(0.9, 1.0),
            "accuracy": 0.968 + d,
        }
        for d in (-0.002, 0.0005, 0.0015)
    ]
    return {
        "kind": "design",
        "asked": {"data": "digits", "space": "mobile-small", "device": "host", "budget": "60%", "seed": 0},
        "data": {"name": "digits", "classes": names, "train": 1150, "held_out": 287, "test": test, "skipped": []},
        "space": {"id": "mobile-small", "size": 1_000_000, "smallest": predicted * 0.45, "largest": budget / 0.6},
        "architecture": {
            "space": "mobile-small",
            "choices": [b["token"] for b in rows if b["searchable"]],
            "string": " | ".join(
                f"ir_r1_k{b['kernel']}_s{b['stride']}_e{b['expansion']:g}_c{b['out_channels']}"
                for b in rows
                if b["token"] != "skip"
            ),
        },
        "blocks": rows,
        "cost": {
            "kind": "latency",
            "unit": "ms",
            "budget": budget,
            "target": budget / 1.02,
            "predicted": predicted,
            "measured": predicted * 1.017,
            "measured_reason": None,
            "measured_holds": True,
            "drift": 1.012,
            "error95": 0.021,
            "rest": rest,
            "macs": 8_423_120,
            "parameters": 412_330,
            "activation_bytes": 196_608,
            "underfilled_reason": None,
        },
        "accuracy": {
            "test": 0.968 + gain,
            "per_class": [{"class": n, "accuracy": 1 - rng.random() ** 3 * 0.3, "count": 36} for n in names],
            "random": {"mean": 0.968, "std": 0.0018, "networks": networks},
            "baselines": [
                {
                    "name": "mobilenetv2",
                    "width": 0.55,
                    "predicted": budget * 0.97,
                    "macs": 9_100_000,
                    "parameters": 501_000,
                    "accuracy": 0.969,
                },
                {
                    "name": "spnasnet_100",
                    "width": 0.5,
                    "predicted": budget * 0.93,
                    "macs": 8_700_000,
                    "parameters": 480_000,
                    "accuracy": 0.964,
                },
            ],
            "relative_improvement": 100 * gain / 0.968,
            "recipe": "base",
            "epochs": 30,
        },
        "export": {
            "onnx": {"file": "model.onnx", "bytes": 1_652_331, "max_abs_difference": 3.1e-6, "ms": predicted * 1.02},
            "source": {"file": "model.py", "bytes": 1_660_100, "max_abs_difference": 0.0, "ms": predicted * 1.4},
        },
        "selection": {"method": "gates", "candidates": 64, "score": 0.0821},
        "table": {
            "device": "host",
            "runtime": "onnxruntime",
            "precision": "fp32",
            "threads": 1,
            "batch": 1,
            "validation": {"rmse_ms": 0.014, "mean_ms": 1.31, "error95": 0.021, "spearman": 0.991, "networks": 20},
            "correction": {"scale": 0.987, "offset_ms": 0.0123},
        },
        "options": {
            "epochs": 30,
            "warm_up": 0.4,
            "batch_size": 64,
            "learning_rate": 0.1,
            "quick": False,
            "time_limit": None,
        },
        "versions": {
            "torch": "2.11.0",
            "onnxruntime": "1.32.0",
            "numpy": "2.2.4",
            "python": "3.11.9",
            "commit": "0123456789ab",
        },
        "seconds": {"measure": 61.2, "search": 112.5, "train": 48.0, "baselines": 130.1, "export": 6.3},
    }


def front(value: dict[str, Any], seed: int = 2) -> dict[str, Any]:
    """What `singlepath front` adds to a result: seven budgets and random networks of each."""
    rng, largest, unit = random.Random(seed), value["space"]["largest"], value["cost"]["unit"]
    rows, drawn = [], []
    for share in (30, 40, 50, 60, 70, 80, 90):
        budget, best = largest * share / 100, 0.08 + 0.3 * math.exp(-share / 22)
        used = 0.89 if share == 90 else 0.98
        rows.append(
            {
                "text": f"{share}%", "budget": budget, "unit": unit, "predicted": budget * used,
                "held_out_cross_entropy": best, "architecture": value["architecture"]["string"],
                "choices": value["architecture"]["choices"],
                "underfilled_reason": "the smaller network was better on held-out data" if share == 90 else None,
            }
        )  # fmt: skip
        drawn += [
            {"predicted": budget * rng.uniform(0.9, 0.98), "held_out_cross_entropy": best * rng.uniform(1.06, 1.6)}
            for _ in range(8)
        ]
    chosen = {"predicted": value["cost"]["predicted"], "held_out_cross_entropy": 0.105}
    return {"front": rows, "front_random": drawn, "front_chosen": chosen}


def fronted(folder: Path) -> Path:
    """A finished design after `singlepath front`, measured above its budget."""
    value = result()
    value["cost"] |= {"measured": value["cost"]["budget"] * 1.018, "measured_holds": False}
    return write(folder, value | front(value), metrics(value["blocks"], value["cost"]["budget"]), training())


def metrics(rows: list[dict[str, Any]], budget: float, steps: int = 900, seed: int = 3) -> list[dict[str, Any]]:
    """Search metrics: a warm-up, then gates that make up their mind, at a cost that comes down to the budget."""
    rng = random.Random(seed)
    gates = [(b["name"], b) for b in rows if b["searchable"]]
    lines = []
    for step in range(steps):
        warm, t = step < 0.4 * steps, step / steps
        row: dict[str, Any] = {"phase": "search", "epoch": step // 30, "step": step, "warm_up": warm}
        row["loss"] = 0.1 + 2.2 * math.exp(-5 * t) + 0.12 * rng.random()
        if step % 10 == 0:
            row["held_out_loss"] = 0.16 + 2.1 * math.exp(-4.5 * t) + 0.03 * rng.random()
        if not warm:
            late = (t - 0.4) / 0.6
            row["expected_cost"] = budget * (0.975 + 0.35 * math.exp(-4 * late) + 0.01 * rng.random())
            row["multiplier"] = 0.3 * (1 - math.exp(-3 * late))
            if step % 5 == 0:
                row["gates"] = {
                    f"{name}.{gate}": 0.5 + (0.47 if on else -0.47) * (1 - math.exp(-3 * late)) + 0.02 * rng.random()
                    for name, b in gates
                    for gate, on in (
                        ("skip", b["token"] == "skip"),
                        ("kernel5", b["kernel"] == 5),
                        ("expansion6", b["expansion"] == 6),
                    )
                }
        lines.append(row)
    return lines


def training(steps: int = 540) -> list[dict[str, Any]]:
    return [
        {
            "phase": "train",
            "epoch": i // 18,
            "step": i,
            "loss": 0.05 + 2.3 * math.exp(-i / 90),
            "accuracy": 1 - 0.9 * math.exp(-i / 80),
        }
        for i in range(steps)
    ]


def write(
    folder: Path,
    value: dict[str, Any] | None,
    search: list[dict[str, Any]] | None = None,
    train: list[dict[str, Any]] | None = None,
) -> Path:
    """The folder of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    if value is not None:
        (folder / "result.json").write_text(json.dumps(value), "utf-8")
    for name, rows in (("metrics.jsonl", search), ("train/metrics.jsonl", train)):
        if rows is not None:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    (folder / "config.yaml").write_text("seed: 0\nbudget: 60%\n", "utf-8")
    return folder


def complete(folder: Path, **options: Any) -> Path:
    """A finished design with all its metrics."""
    value = result(**options)
    return write(folder, value, metrics(value["blocks"], value["cost"]["budget"]), training())


def mobile(folder: Path) -> Path:
    """A search over the 22 blocks of the paper's space, not trained, on a device that is only a table."""
    value = result(MOBILE, side=112, seed=5)
    value |= {"kind": "search", "accuracy": None, "export": {}}
    value["asked"] |= {"data": "flowers17", "space": "mobile", "device": "pixel1", "budget": "80ms"}
    value["data"]["name"] = "flowers17"
    value["architecture"]["space"] = value["space"]["id"] = "mobile"
    value["space"]["size"] = 3.125e13
    value["cost"] |= {"measured": None, "measured_reason": "pixel1 is a table, not a device at hand", "drift": None}
    return write(folder, value, metrics(value["blocks"], value["cost"]["budget"]))
