"""The corridor on real images: search, train, evaluate, export, predict, report, each on what the one before left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.helpers import printed, run

from singlepath.architecture import Architecture
from singlepath.costs import count_costs, macs
from singlepath.data import load
from singlepath.export import load_weights
from singlepath.spaces import make


class Corridor:
    """The run folder and what every command printed."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.run, self.data = folder, data
        self.search = printed(
            "search", "--quick", "--data", data, "--space", "macro", "--limit", 300, "--epochs", 1,
            "--budget", "40MMACs", "--out", folder,
        )  # fmt: skip
        self.after_search = json.loads((folder / "result.json").read_text())
        self.train = printed("train", folder, "--quick")
        self.evaluate = printed("evaluate", folder)
        self.export = printed("export", folder)

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.run / "result.json").read_text())


@pytest.fixture(scope="session")
def corridor(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Corridor:
    pytest.importorskip("pyarrow")
    pytest.importorskip("onnxruntime")
    return Corridor(tmp_path_factory.mktemp("corridor") / "run", shared_data / "cifar10")


def test_the_search_keeps_the_budget_in_macs_counted_anew(corridor: Corridor) -> None:
    found, space = corridor.search, make("macro")
    architecture = Architecture.from_dict(json.loads((corridor.run / "architecture.json").read_text()))
    assert list(architecture.choices) == found["choices"]
    spec = space.network(space.architecture(space.indices(architecture)))
    assert found["macs"] == macs(spec) <= 40e6
    assert found["predicted"] == pytest.approx(found["macs"] / 1e6) and found["unit"] == "MMACs"
    assert found["budget"] == 40.0 and found["architecture"] == space.string(architecture)
    assert (found["predicted"] >= 36.0) == (found["underfilled_reason"] is None)
    assert found["run"] == str(corridor.run)


def test_printed_and_kept_values_agree(corridor: Corridor) -> None:
    found, kept = corridor.search, corridor.after_search
    assert kept["architecture"]["string"] == found["architecture"]
    for key in ("predicted", "budget", "macs", "parameters", "unit", "underfilled_reason"):
        assert kept["cost"][key] == found[key], key
    assert kept["cost"]["measured"] is None and kept["cost"]["measured_reason"]
    assert kept["data"]["train"] + kept["data"]["held_out"] == 300 and len(kept["data"]["classes"]) == 10
    costs = count_costs(make("macro"), "macs")
    assert kept["cost"]["rest"] + sum(b["cost"] for b in kept["blocks"]) == pytest.approx(found["predicted"])
    assert kept["space"]["smallest"] == costs.smallest and kept["space"]["largest"] == costs.largest
    assert "accuracy" not in kept, "the test part is read later"


def test_the_search_left_metrics_of_every_part(corridor: Corridor) -> None:
    rows = [json.loads(line) for line in (corridor.run / "metrics.jsonl").read_text().splitlines()]
    assert [r["phase"] for r in rows] == ["search"] * len(rows) and len(rows) >= 2
    assert all(r["loss"] > 0 and 0 <= r["accuracy"] <= 1 for r in rows)
    assert not any("gates" in r for r in rows), "what nothing trains is not shown"
    config = (corridor.run / "config.yaml").read_text()
    assert "macro" in config and "torch:" in config and "40MMACs" in config


def test_training_uses_all_training_images_and_keeps_the_found_network(corridor: Corridor) -> None:
    assert corridor.train["images"] == 300 and corridor.train["epochs"] == 1 and corridor.train["recipe"] == "base"
    loaded = load_weights(Path(corridor.train["weights"]))
    space = make("macro")
    choices = space.architecture(space.indices(Architecture("macro", tuple(corridor.search["choices"]))))
    assert loaded.network.spec == space.network(choices)
    assert loaded.classes == tuple(corridor.after_search["data"]["classes"])


def test_evaluation_is_of_the_test_part_and_is_kept(corridor: Corridor) -> None:
    shown, kept = corridor.evaluate, corridor.result["accuracy"]
    assert shown["split"] == "test" and shown["images"] == 300
    assert kept["test"] == shown["accuracy"] and kept["per_class"] == shown["per_class"]
    confusion = np.array(shown["confusion"])
    assert confusion.sum() == 300 and shown["accuracy"] == pytest.approx(np.trace(confusion) / 300)
    for i, row in enumerate(shown["per_class"]):
        assert row["count"] == confusion[i].sum()
        assert row["accuracy"] == pytest.approx(confusion[i, i] / max(confusion[i].sum(), 1))
    held_out = printed("evaluate", corridor.run, "--split", "val")
    assert held_out["images"] == corridor.after_search["data"]["held_out"]
    assert corridor.result["accuracy"] == kept, "another split leaves the test result alone"


def test_exports_give_the_same_numbers_in_a_fresh_process(corridor: Corridor) -> None:
    parts = corridor.export["export"]
    assert set(parts) == {"onnx", "source"} and corridor.result["export"] == parts
    for part in parts.values():
        assert part["max_abs_difference"] <= 1e-4 and part["agreement"] == 1.0 and part["ms"] > 0
        assert (corridor.run / part["file"]).is_file()


def test_predictions_of_the_run_and_of_both_exports_agree(corridor: Corridor, tmp_path: Path) -> None:
    test = load(corridor.data, size=32, limit=300).open_test()
    for i in range(6):
        Image.fromarray(test.pixels[i].permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")  # type: ignore[union-attr]
    models = [corridor.run, *(corridor.run / p["file"] for p in corridor.export["export"].values())]
    models[-1] = models[-1].with_name("model.safetensors")
    found = [printed("predict", m, tmp_path, "--top", 3)["predictions"] for m in models]
    assert [Path(p["file"]).name for p in found[0]] == [f"{i}.png" for i in range(6)]
    assert all(p["label"] in corridor.after_search["data"]["classes"] for p in found[0])
    for other in found[1:]:
        assert [p["label"] for p in other] == [p["label"] for p in found[0]]
        for a, b in zip(other, found[0], strict=True):
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-4)


def test_the_report_shows_the_runs_values(corridor: Corridor) -> None:
    page = Path(printed("report", corridor.run)["report"])
    assert page.parent == corridor.run and page.stat().st_size < 300_000
    text = page.read_text()
    assert "40" in text and "MMACs" in text and f"{100 * corridor.evaluate['accuracy']:.1f}" in text


def test_training_again_with_the_same_options_reads_the_weights_back(corridor: Corridor) -> None:
    before = (corridor.run / "weights.safetensors").read_bytes()
    assert printed("train", corridor.run, "--quick") == corridor.train
    assert (corridor.run / "weights.safetensors").read_bytes() == before
    code, _, err = run("train", corridor.run, "--quick", "--seed", 1)
    assert (code == 2 and "seed is 1 but" in err and "--name" in err) or "another folder" in err


def test_inherited_weights_start_where_the_supernet_ended(corridor: Corridor) -> None:
    found = printed("train", corridor.run, "--quick", "--init", "inherited", "--name", "inherited")
    assert found["epochs"] == 1 and (corridor.run / "inherited" / "weights.safetensors").is_file()
    assert corridor.result["training"]["init"] == "inherited"
