"""Training one network: losses against their definitions, the moving average, learning, and resuming to the bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.helpers import SPACE, Memory, digits, spec
from torch import Tensor, nn

from singlepath.blocks import build
from singlepath.data import Batch
from singlepath.errors import SinglepathError
from singlepath.runs import Run
from singlepath.training import Recipe, evaluate, get_recipe, loop, train_network
from singlepath.training.loop import fit, quiet
from singlepath.training.train import average, cross_entropy, mixed_loss, prepare

OPTIONS = {"seed": 0}


def soft_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return -(targets * logits.log_softmax(1)).sum(1).mean()


def one_hot(y: Tensor, classes: int) -> Tensor:
    return torch.eye(classes)[y]


def test_label_smoothing_spreads_a_share_over_all_classes() -> None:
    g = torch.Generator().manual_seed(0)
    logits, y = torch.randn(6, 4, generator=g), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = soft_loss(logits, 0.9 * one_hot(y, 4) + 0.1 / 4)
    torch.testing.assert_close(cross_entropy(logits, y, 0.1), expected)
    torch.testing.assert_close(cross_entropy(logits, y), soft_loss(logits, one_hot(y, 4)))


class Seen(nn.Module):
    """A linear network that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.given = nn.Linear(4, 3), torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        self.given = x
        return self.linear(x)


def test_mixup_mixes_images_and_labels_in_the_same_share() -> None:
    batch = Batch(torch.stack([torch.zeros(4), torch.ones(4)]), torch.tensor([0, 2]), torch.arange(2))
    recipe = replace(get_recipe("base"), mixup=0.2, label_smoothing=0.1)
    shares = []
    for step in range(200):
        net = Seen()
        loss, logits = mixed_loss(net, batch, recipe, 3, step)
        share = 1 - float(net.given[0, 0])  # the first image is zeros, mixed with the second's ones
        targets = share * one_hot(batch.y, 3) + (1 - share) * one_hot(batch.y.flip(0), 3)
        torch.testing.assert_close(net.given[1], torch.full((4,), share))
        torch.testing.assert_close(loss, soft_loss(logits, 0.9 * targets + 0.1 / 3))
        shares.append(share)
        again = Seen()
        mixed_loss(again, batch, recipe, 3, step)
        assert torch.equal(again.given, net.given), "a function of seed and step"
    assert min(shares) < 0.1 and max(shares) > 0.9 and len(set(shares)) > 150
    # Beta(0.2, 0.2) has variance 1 / (4 (2 * 0.2 + 1))
    assert torch.tensor(shares).var() == pytest.approx(1 / 5.6, abs=0.04)


def test_without_mixup_the_images_stay_as_they_are() -> None:
    batch, net = Batch(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]), torch.arange(5)), Seen()
    loss, logits = mixed_loss(net, batch, get_recipe("base"), 0, 0)
    assert torch.equal(net.given, batch.x)
    torch.testing.assert_close(loss, soft_loss(logits, one_hot(batch.y, 3)))


def test_the_average_is_an_exponential_one_with_a_start() -> None:
    mean, net = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    for norm, value in ((mean, 1.0), (net, 2.0)):
        for tensor in norm.state_dict().values():
            tensor.fill_(value)
    for step, decay, expected in ((0, 0.999, 0.1), (90, 0.999, 0.91), (10**6, 0.999, 0.999), (10**6, 0.5, 0.5)):
        mean.weight.data.fill_(1.0)
        mean.running_var.fill_(1.0)  # type: ignore[union-attr]
        average(mean, net, decay, step)
        assert mean.weight.data.tolist() == pytest.approx([expected + (1 - expected) * 2] * 3), (step, decay)
        assert mean.running_var.tolist() == pytest.approx(mean.weight.tolist())  # type: ignore[union-attr]
    assert int(mean.num_batches_tracked) == 2  # type: ignore[arg-type]


def short(name: str, epochs: int = 2) -> Recipe:
    return get_recipe(name).fitted(len(digits().all_train), epochs)


def test_what_full_returns_is_the_average_over_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, recipe = Memory(), replace(short("full"), ema=0.8)
    monkeypatch.setenv("SINGLEPATH_CHECKPOINT_SECONDS", "0")
    network = train_network(spec(), digits(), recipe, run=memory)  # type: ignore[arg-type]
    start = dict(build(spec(), 0).state_dict())
    mean = {k: v.double() for k, v in start.items() if v.is_floating_point()}
    for step, saved in enumerate(memory.saved):
        d = min(0.8, (1 + step) / (10 + step))
        mean = {k: d * v + (1 - d) * saved["model"][k].double() for k, v in mean.items()}
    assert len(memory.saved) == 12
    final = network.state_dict()
    for key, value in mean.items():
        torch.testing.assert_close(final[key].double(), value, rtol=1e-4, atol=1e-5)
        if key.endswith("conv_dw.weight"):
            assert not torch.equal(final[key], memory.saved[-1]["model"][key])
    assert not network.training


def test_the_recipe_reaches_the_network() -> None:
    network = prepare(build(spec(), 0), get_recipe("single-path"))
    assert {m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}
    assert {m.p for m in network.modules() if isinstance(m, nn.Dropout)} == {0.2}


def test_a_network_learns_digits_quickly() -> None:
    data = digits(700)
    network = train_network(spec(), data, get_recipe("base").fitted(700, 4), seed=0)
    scored = evaluate(network, data.open_test(), data.preprocess, classes=10)
    assert scored["accuracy"] > 0.5, "chance is 0.1"
    assert scored["images"] == len(data.open_test()) == sum(scored["counts"])


def test_evaluate_agrees_with_a_plain_loop() -> None:
    data, network = digits(), build(spec(), 0).eval()
    for norm in network.modules():  # sizes that make untrained logits differ
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None
    with torch.no_grad():
        network.train()(data.preprocess.normalise(data.train.pixels))  # type: ignore[union-attr]
        network.eval()
        logits = network(data.preprocess.normalise(data.val.pixels))  # type: ignore[union-attr]
    scored = evaluate(network, data.val, data.preprocess, classes=10)
    y, guess = data.val.labels, logits.argmax(1)
    assert scored["accuracy"] == pytest.approx(float((guess == y).float().mean()))
    assert scored["cross_entropy"] == pytest.approx(float(cross_entropy(logits, y)), rel=1e-5)
    for c in range(10):
        assert scored["counts"][c] == int((y == c).sum())
        assert scored["confusion"][c] == [int(((y == c) & (guess == g)).sum()) for g in range(10)]
        assert scored["per_class"][c] == pytest.approx(float((guess[y == c] == c).float().mean()))


# -- the loop ---------------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


def stop_at(step: int) -> Any:
    def progress(tag: str, done: int, total: int, values: Mapping[str, float]) -> None:
        if done == step:
            raise Stopped

    return progress


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("name", ["base", "full", "single-path"])
def test_resuming_in_the_middle_of_an_epoch_is_the_unbroken_training_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, torn: bool
) -> None:
    monkeypatch.setenv("SINGLEPATH_CHECKPOINT_SECONDS", "0")
    recipe = short(name)  # 6 steps an epoch

    def train(folder: Path, resume: bool, progress: Any = quiet) -> dict[str, Tensor]:
        torch.manual_seed(1234 if resume else 99)  # whatever the global generator holds must not matter
        with Run.open(folder, OPTIONS, resume=resume, note=lambda text: None) as run:
            return weights(train_network(spec(), digits(), recipe, seed=5, run=run, progress=progress))

    unbroken = train(tmp_path / "a", False)
    with pytest.raises(Stopped):
        train(tmp_path / "b", False, stop_at(8))
    newest = sorted((tmp_path / "b" / "checkpoints").iterdir())[-1]
    assert newest.name == "train-000000007.pt"
    if torn:
        newest.write_bytes(newest.read_bytes()[:1000])
    resumed = train(tmp_path / "b", True)
    assert all(torch.equal(unbroken[k], resumed[k]) for k in unbroken)
    logs = [(tmp_path / x / "metrics.jsonl").read_bytes() for x in "ab"]
    assert logs[0] == logs[1] and logs[0].count(b"\n") == 2
    other = weights(train_network(spec(), digits(), recipe, seed=6))
    assert not torch.equal(unbroken["conv_stem.weight"], other["conv_stem.weight"])


def test_the_loop_takes_every_batch_once_and_logs_means_over_epochs() -> None:
    taken: list[tuple[int, int]] = []

    def step(state: dict[str, Any], batch: tuple[int, int]) -> dict[str, float]:
        taken.append(batch)
        return {"loss": float(batch[1])} | ({"rare": 5.0} if batch == (1, 2) else {})

    memory = Memory()
    state = fit(
        {}, step, lambda epoch, start: [(epoch, i) for i in range(start, 4)], epochs=3, steps_per_epoch=4, tag="x",
        run=memory, log=lambda s: {"extra": s["step"]},  # type: ignore[arg-type]
    )  # fmt: skip
    assert taken == [(e, i) for e in range(3) for i in range(4)] and state["step"] == 12
    assert [row["loss"] for row in memory.rows] == [1.5] * 3
    assert [row.get("rare") for row in memory.rows] == [None, 5.0, None]
    assert [(row["step"], row["extra"], row["phase"]) for row in memory.rows] == [
        (4, 4, "x"),
        (8, 8, "x"),
        (12, 12, "x"),
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training_and_is_never_kept(bad: float) -> None:
    memory = Memory()
    with pytest.raises(SinglepathError, match=r"diverged at step 4: loss is not a finite number; type .*--seed"):
        fit(
            {}, lambda state, batch: {"loss": torch.tensor(bad if batch == 3 else 1.0)},
            lambda epoch, start: range(epoch * 2 + start, epoch * 2 + 2), epochs=4, steps_per_epoch=2, tag="x",
            run=memory, checkpoint_seconds=1e9, checkpoint_steps=3,  # type: ignore[arg-type]
        )  # fmt: skip
    assert [row["loss"] for row in memory.rows] == [1.0] and [saved["step"] for saved in memory.saved] == [3]


def test_a_diverged_training_leaves_no_checkpoint() -> None:
    memory = Memory()
    with pytest.raises(SinglepathError, match="diverged at step 2: held_out_loss"):
        fit(
            {}, lambda state, batch: {"held_out_loss": math.nan}, lambda epoch, start: range(9), epochs=1,
            steps_per_epoch=9, tag="x", run=memory, checkpoint_steps=2,  # type: ignore[arg-type]
        )  # fmt: skip
    assert not memory.saved and not memory.rows


def test_means_are_of_float64_sums_and_kept_as_plain_numbers() -> None:
    memory, values = Memory(), [0.1 * i for i in range(10)]
    fit(
        {}, lambda state, i: {"loss": torch.tensor(values[i], requires_grad=True), "part": values[i]},
        lambda epoch, start: range(start, 10), epochs=1, steps_per_epoch=10, tag="x", run=memory,  # type: ignore[arg-type]
        checkpoint_steps=7, checkpoint_seconds=1e9,
    )  # fmt: skip
    singles = torch.tensor(values).double().tolist()
    assert memory.rows[0]["loss"] == sum(singles) / 10 and memory.rows[0]["part"] == sum(values) / 10
    assert memory.saved[0]["sums"] == {"loss": sum(singles[:7]), "part": sum(values[:7])}
    assert type(memory.saved[0]["sums"]["loss"]) is float


def test_the_progress_sees_what_was_logged_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHOW_SECONDS", -1.0)
    seen: list[dict[str, float]] = []
    state = fit(
        {}, lambda state, i: {"loss": float(i)}, lambda epoch, start: range(start, 2), epochs=2, steps_per_epoch=2,
        tag="x", progress=lambda tag, done, total, values: seen.append(dict(values)),
        log=lambda s: {"expected_cost": 10.0 * s["step"], "gates": {"a": 1}},
    )  # fmt: skip
    first = {"epoch": 1, "epochs": 2}
    assert seen[:2] == [first | {"loss": 0.0}, first | {"loss": 0.5}]
    assert [(v["epoch"], v["loss"], v["expected_cost"]) for v in seen[2:]] == [(2, 0.0, 20.0), (2, 0.5, 20.0)]
    assert "gates" not in seen[-1] and state.keys() == {"step", "sums", "counts"}


def test_a_finished_training_does_nothing_on_resume(tmp_path: Path) -> None:
    recipe = short("base", 1)
    for resume in (False, True):
        with Run.open(tmp_path / "a", OPTIONS, resume=resume) as run:
            train_network(spec(), digits(), recipe, run=run, progress=stop_at(1 if resume else -1))
    assert (tmp_path / "a" / "metrics.jsonl").read_text().count("\n") == 1


def test_what_a_state_holds_is_put_back_in_place(tmp_path: Path) -> None:
    """Whoever has a tensor or a module of it, as an optimiser has, goes on with the values that were kept."""

    def trained(stop: int) -> dict[str, Any]:
        weight, layer = torch.zeros(2), nn.Linear(1, 1)
        nn.init.zeros_(layer.weight)

        def step(state: dict[str, Any], batch: int) -> dict[str, float]:
            if state["step"] == stop:
                raise KeyboardInterrupt
            weight.add_(batch)
            layer.weight.data += batch
            state["inner"]["list"] = [weight.clone(), batch]
            return {"loss": 0.0}

        state: dict[str, Any] = {"weight": weight, "layer": layer, "inner": {"gone": 1}}
        with Run.open(tmp_path / "a", OPTIONS, resume=(tmp_path / "a").exists()) as run:
            fit(
                state, step, lambda epoch, start: range(start, 4), epochs=1, steps_per_epoch=4, tag="x", run=run,
                checkpoint_steps=1,
            )  # fmt: skip
        assert state["weight"] is weight and state["layer"] is layer
        return state

    with pytest.raises(KeyboardInterrupt):
        trained(2)
    state = trained(-1)
    assert state["weight"].tolist() == [6.0, 6.0] and state["layer"].weight.tolist() == [[6.0]]
    assert state["inner"].keys() == {"list", "gone"} and state["inner"]["list"][0].tolist() == [6.0, 6.0]


def test_a_wrong_checkpoint_interval_is_a_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGLEPATH_CHECKPOINT_SECONDS", "soon")
    with pytest.raises(Exception, match="SINGLEPATH_CHECKPOINT_SECONDS='soon'; allowed: a number"):
        train_network(spec(), digits(), short("base", 1))


def test_training_is_a_function_of_the_seed_and_uses_all_training_images() -> None:
    first, again = (weights(train_network(spec(), digits(), short("base", 1), seed=3)) for _ in range(2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert len(digits().all_train) == len(digits().train) + len(digits().val) == 200
    assert SPACE.input_size == digits().preprocess.size and math.isfinite(float(first["bn1.weight"].sum()))
