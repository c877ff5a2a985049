"""The command line: what a user's mistakes say, the last line of --json, --config, --help, and published figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pipeline.helpers import printed, run
from tests.pipeline.test_design import table_of

from singlepath.cli import going_on
from singlepath.costs import LatencyTable
from singlepath.pipeline import COMMANDS
from singlepath.runs import Run
from singlepath.spaces import make

SMALL = ["--space", "mobile-small(width=0.5, input_size=16)", "--budget", "0.9MMACs"]
QUICK = [*SMALL, "--data", "digits", "--limit", 200, "--quick"]


def refused(*arguments: object) -> str:
    """The one line of a command that must end with status 2."""
    code, out, err = run(*arguments)
    assert code == 2, (out, err)
    assert err.startswith("singlepath: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err and out == ""
    return err.strip()


def images(folder: Path, **classes: int) -> Path:
    """A folder of class folders with so many images each."""
    random = np.random.default_rng(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / name / f"{i:03d}.png")
    return folder


# -- figures ----------------------------------------------------------------------------------------------------------


def test_the_papers_network_on_the_papers_phone() -> None:
    found = printed("latency", "--architecture", "spnasnet_100", "--device", "pixel1")
    assert found["predicted_ms"] == pytest.approx(80.44, abs=0.01)
    assert found["measured_ms"] is None and "pixel1" in found["measured_reason"].lower().replace(" ", "")
    assert round(found["parameters"] / 1e6, 2) == 4.42 and round(found["macs"] / 1e6, 1) == 333.5
    assert found["space"] == "mobile" and found["architecture"].count("|") == 6


def test_what_the_paper_space_costs_on_the_papers_phone() -> None:
    found = printed("check", "--space", "mobile", "--device", "pixel1", "--budget", "80ms")
    assert found["smallest_ms"] == pytest.approx(30.63, abs=0.005)
    assert found["largest_ms"] == pytest.approx(131.46, abs=0.005)
    assert found["smallest_ms"] < found["middle_ms"] < found["largest_ms"]
    assert found["space_size"] == 3.125e13 == 4**5 * 5**15 * 1.0
    assert found["satisfiable"] is True and found["budget_ms"] == 80 and found["data"] is None
    assert found["search"]["minutes"] > 0


def test_check_loads_the_data_and_counts_what_cannot_be_read(tmp_path: Path) -> None:
    folder = images(tmp_path, ant=100, bee=100)
    (folder / "ant" / "007.png").write_bytes(b"no image")
    found = printed("check", *SMALL, "--data", folder)
    assert found["data"]["classes"] == 2 and found["data"]["skipped"] == 1
    assert found["data"]["train"] + found["data"]["held_out"] + 40 == 199, "a fifth is the test part"
    assert found["smallest_mmacs"] < found["budget_mmacs"] == 0.9 < found["largest_mmacs"]
    assert "classes=2" in found["space"], "costs are of the space that a search of this data has"


# -- wrong input ------------------------------------------------------------------------------------------------------

SEARCH = ["search", "--out"]
WRONG: dict[str, tuple[list[object], list[str]]] = {
    "data": ([*SMALL, "--data", "no/folder"], ["no data at 'no/folder'", "digits (built in)", "correct the path"]),
    "data name": ([*SMALL, "--data", "digit"], ["'digit'", "type --data digits"]),
    "space": (["--space", "mobil"], ["unknown space 'mobil'", "macro, mobile, mobile-small", "type --space mobile"]),
    "space option": (["--space", "macro(widht=2)"], ["'widht'", "width", "did you mean 'width'?"]),
    "space kernels": (["--kernels", "5,3"], ["'5,3'", "ascending", "type --kernels 3,5,7"]),
    "space numbers": (["--kernels", "three"], ["'three'", "numbers", "type --kernels 3,5"]),
    "device": (["--device", "pixel2"], ["unknown device 'pixel2'", "host, pixel1", "type --device pixel1"]),
    "table": (["--device", "no.json"], ["no file no.json", "latency table", "singlepath measure"]),
    "runtime": (["--runtime", "onxruntime"], ["'onxruntime'", "onnxruntime, torch", "type --runtime onnxruntime"]),
    "mode": ([*QUICK, "--mode", "papers"], ["unknown mode 'papers'", "random", "type --mode paper"]),
    "select": ([*QUICK, "--select", "gate"], ["unknown select 'gate'", "gates", "type --select gates"]),
    "select's option": (
        [*QUICK, "--select", "score(fine_tune=20)"], ["option of selection score", "'fine_tune'", "candidates"],
    ),
    "select without": ([*QUICK, "--select", "gates(candidates=5)"], ["gates takes no options", "type --select gates"]),
    "select's number": (
        [*QUICK, "--select", "perturbation(fine_tune=0.5)"],
        ["fine_tune 0.5 of selection perturbation", "1 or more", "type --select 'perturbation(fine_tune=100)'"],
    ),
    "budget unit": (["--budget", "80 parsecs"], ["'80 parsecs'", "ms, MMACs, Mparams or %", "type for example 80ms"]),
    "budget flops": (["--budget", "300MFLOPs"], ["'300MFLOPs'", "multiply-accumulates", "type 300MMACs"]),
    "budget small": (
        [*SMALL[:2], "--budget", "0.1MMACs"],
        ["0.1MMACs is below the smallest", "0.3211 MMACs", "0.3211 to 1.8156 MMACs", "type --budget 0.3212MMACs"],
    ),
    "table's input": (
        ["--space", "mobile(input_size=192)", "--device", "pixel1", "--budget", "80ms"],
        ["224 px", "192 px", "type --space 'mobile'"],
    ),
    "table's space": (
        ["--space", "mobile(kernels=(3, 5, 7))", "--device", "pixel1", "--budget", "80ms"],
        ["space mobile;", "kernels=(3, 5, 7)", "type --space 'mobile'"],
    ),
    "threads": ([*QUICK, "--threads", 0], ["--threads 0", "1 or more", "type --threads"]),
    "epochs": ([*QUICK, "--epochs", 0], ["--epochs", "1", "singlepath search --help"]),
    "a batch of one": ([*QUICK, "--batch-size", 1], ["--batch-size", "2", "singlepath search --help"]),
    "number": ([*QUICK, "--epochs", "many"], ["--epochs", "integer", "singlepath search --help"]),
    "seed": ([*QUICK, "--seed", -1], ["--seed", "0", "singlepath search --help"]),
    "limit": ([*SMALL, "--limit", 5], ["limit of 5 images for 10 classes", "type --limit 20"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_of_a_search_say_what_to_type_and_leave_no_folder(tmp_path: Path, case: str) -> None:
    arguments, says = WRONG[case]
    message = refused(*SEARCH, tmp_path / "run", *arguments)
    assert all(part in message for part in says), message
    assert not (tmp_path / "run").exists(), "so that the mended command can be typed again"


OTHERS: dict[str, tuple[list[object], list[str]]] = {
    "command": (["serach"], ["unknown command 'serach'", "check, design", "type singlepath search"]),
    "option": (["search", "--bugdet", "80ms"], ["unknown option of search '--bugdet'", "--data", "--budget"]),
    "missing option": (["latency"], ["--architecture", "singlepath latency --help"]),
    "missing argument": (["train"], ["RUN", "singlepath train --help"]),
    "check budget": (
        ["check", "--space", "mobile", "--device", "pixel1", "--budget", "20ms"],
        ["budget 20ms is below the smallest", "30.63 ms", "131.46 ms", "type --budget 30.64ms"],
    ),
    "architecture": (
        ["latency", "--architecture", "spnasnet_10", "--device", "pixel1"],
        ["unknown architecture 'spnasnet_10'", "mnasnet_b1", "type --architecture spnasnet_100"],
    ),
    "block": (
        ["latency", "--space", "macro", "--device", "pixel1", "--architecture", "ir_r1_k7_s2_e6_c64 skip"],
        ["block 0 (stage 0, layer 0) is 'ir_r1_k7_s2_e6_c64'", "allows ir_r1_k3_s2_e3_c64, ir_r1_k5_s2_e6_c64, id_"],
    ),
    "run": (["train", "no/run"], ["no run folder no/run", "search or design", "check the path"]),
    "resume": (["search", "--resume", "no/run"], ["no/run", "a run folder"]),
    "report": (["report", "no/run"], ["no/run is not a run folder", "type the folder given to --out"]),
    "model": (["predict", "no.onnx", "x.png"], ["'no.onnx' does not exist", ".onnx and .safetensors"]),
    "measure runtime": (["measure", "--runtime", "tflite"], ["'tflite'", "onnxruntime, torch", "type --runtime"]),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_other_mistakes_say_what_to_type(case: str) -> None:
    arguments, says = OTHERS[case]
    message = refused(*arguments)
    assert all(part in message for part in says), message


def test_an_architecture_file_that_does_not_fit_names_the_block_and_what_it_may_be(tmp_path: Path) -> None:
    space = make("mobile")
    choices = ["k3_e3"] * 20
    choices[5] = "k9_e9"
    file = tmp_path / "architecture.json"
    file.write_text(json.dumps({**space.largest().as_dict(), "choices": choices}))
    message = refused("latency", "--architecture", file, "--device", "pixel1")
    assert "block 6 (stage 2, layer 1) is 'k9_e9'" in message
    assert "allows k3_e3, k3_e6, k5_e3, k5_e6, skip" in message and "block 6" in message.split(";")[-1]
    file.write_text("{")
    assert "JSON" in refused("latency", "--architecture", file, "--device", "pixel1")


def blocks_of(text: str) -> list[str]:
    return [w for w in text.split() if w.startswith("ir_")]


def test_an_architecture_string_that_does_not_fit_names_the_block_and_what_it_may_be() -> None:
    space = make("mobile")
    string = space.string(space.largest())
    wrong = string.replace(blocks_of(string)[1], "ir_r1_k7_s1_e6_c24", 1)
    message = refused("latency", "--architecture", wrong, "--device", "pixel1")
    assert "block 2 (stage 1, layer 1) is 'ir_r1_k7_s1_e6_c24'" in message
    assert "ir_r1_k3_s1_e3_c24, ir_r1_k3_s1_e6_c24, ir_r1_k5_s1_e3_c24, ir_r1_k5_s1_e6_c24, skip;" in message


FOLDERS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "one class": (lambda p: images(p, ant=9), ["one class", "ant"]),
    "empty class": (lambda p: (images(p, ant=9, bee=9), (p / "cow").mkdir()), ["cow"]),
    "no class": (lambda p: None, []),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_image_folders_that_cannot_be_used(tmp_path: Path, case: str) -> None:
    write, says = FOLDERS[case]
    folder = tmp_path / "photos"
    folder.mkdir()
    write(folder)
    for command in (["check"], ["search", "--out", tmp_path / "run"]):
        message = refused(*command, *SMALL, "--data", folder)
        assert all(part in message for part in [*says, "photos"]) and message.count(";") >= 2, message


def test_more_than_one_percent_of_corrupt_images_stops_the_run(tmp_path: Path) -> None:
    folder = images(tmp_path / "photos", ant=50, bee=50)
    for i in range(4):
        (folder / "ant" / f"{i:03d}.png").write_bytes(b"no image")
    message = refused("search", "--out", tmp_path / "run", *SMALL, "--data", folder)
    assert "of 80 images cannot be decoded (ant/00" in message and "at most 1% are skipped" in message, message


def test_an_output_folder_that_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for command in ("search", "design"):
        message = refused(command, *QUICK, "--out", tmp_path)
        assert f"output folder {tmp_path} exists" in message and "another" in message
    (tmp_path / "table.json").write_text("mine")
    message = refused("measure", "--out", tmp_path / "table.json")
    assert "table.json exists" in message and "--out" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.txt", "table.json"]


def test_a_locked_run_folder_names_its_holder(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", {"data": "digits"}):
        message = refused("search", "--resume", tmp_path / "run")
    assert f"in use by process {os.getpid()} since" in message and "wait for it" in message


def test_a_run_with_another_configuration_is_refused_naming_the_option(tmp_path: Path) -> None:
    printed("search", *QUICK, "--mode", "random", "--out", tmp_path / "run")
    message = refused("search", "--resume", tmp_path / "run", "--budget", "0.8MMACs")
    assert "budget is '0.8MMACs'" in message and "'0.9MMACs'" in message and "type --budget 0.9MMACs" in message
    before = torch.get_num_threads()
    message = refused("search", "--resume", tmp_path / "run", "--threads", 3)
    assert "threads is 3" in message and "--allow-changed" in message
    assert torch.get_num_threads() == before, "a refused command changes nothing"


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("sklearn", ["check", *SMALL, "--data", "digits"], "search"),
        ("onnxruntime", ["check", "--space", "mobile-small(width=0.5, input_size=16)", "--quick"], "onnx"),
        ("scipy", ["bench", "--task", "nothing"], "search"),  # before anything is run, not when all of it has been
        ("pyarrow", ["bench", "--task", "nothing"], "data"),
    ],
)
def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, arguments: list[object], extra: str
) -> None:
    for name in [m for m in sys.modules if m == module or m.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    message = refused(*arguments)
    assert f"{module!r} is not installed" in message and f'singlepath[{extra}]"' in message


def started(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "singlepath", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_an_environment_without_onnxruntime_is_told_the_extra(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    done = started("search", "--out", tmp_path / "run", "--budget", "60%", "--quick", PYTHONPATH=str(tmp_path))
    last = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(last) == 1 and done.stdout == "", done.stderr
    assert last[0].startswith("singlepath: ") and "is not installed" in last[0] and 'singlepath[onnx]"' in last[0]


def test_mistakes_in_a_process_of_their_own(tmp_path: Path) -> None:
    done = started("search", "--out", tmp_path / "run", "--budget", "80 parsecs")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("singlepath: budget '80 parsecs'; allowed: a number with ms")
    folder = images(tmp_path / "photos", ant=100, bee=100)
    (folder / "bee" / "042.png").write_bytes(b"no image")
    done = started("check", *SMALL, "--data", folder, "--json")
    assert done.returncode == 0 and "042.png" in done.stderr and json.loads(done.stdout)["data"]["skipped"] == 1


def test_an_interrupted_command_says_how_it_goes_on() -> None:
    assert "--resume RUN" in going_on(["search", "--data", "digits"]) and "--resume RUN" in going_on(["bench"])
    assert going_on(["train", "runs/a"]) == going_on([]) == "type it again", "train goes on where it was"


# -- --json, --config, --help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_whose_options_exist(name: str) -> None:
    code, out, _ = run(name, "--help")
    text = " ".join(out.split())
    assert code == 0 and "--json" in text and "--config" in text
    example = text.split("Example: ")[1].split("Options")[0].split("Arguments")[0]
    assert example.startswith(f"singlepath {name} ")
    assert all(flag in text.replace(example, "", 1) for flag in example.split() if flag.startswith("--")), example


def test_the_front_page_lists_every_command() -> None:
    code, out, _ = run("--help")
    assert code == 0 and all(name in out for name in COMMANDS)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("cli") / "first"
    return folder, printed("search", *QUICK, "--epochs", 2, "--seed", 4, "--out", folder)


def kept(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("architecture.json", "metrics.jsonl")]


def test_config_repeats_a_run_and_flags_win_over_it(searched: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, first = searched
    again = printed("search", "--config", folder / "config.yaml", "--out", tmp_path / "again")
    assert {**again, "run": ""} == {**first, "run": ""}
    assert kept(tmp_path / "again") == kept(folder)
    other = printed("search", "--config", folder, "--seed", 5, "--mode", "random", "--out", tmp_path / "other")
    assert other["selection"]["method"] == "random" and other["budget"] == first["budget"]
    assert kept(tmp_path / "other") != kept(folder)


def test_the_json_line_is_the_last_and_without_it_people_read_words(searched: tuple[Path, dict[str, Any]]) -> None:
    folder, first = searched
    code, out, _ = run("search", "--resume", folder, "--json")
    assert code == 0 and json.loads(out.splitlines()[-1]) == first and len(out.splitlines()) == 1
    code, out, _ = run("search", "--resume", folder)
    assert code == 0 and f"predicted: {first['predicted']:.6g}" in out and "{" not in out


def test_a_resumed_run_goes_on_with_the_threads_that_were_allowed(searched: tuple[Path, dict[str, Any]]) -> None:
    before = torch.get_num_threads()
    code, _, err = run("search", "--resume", searched[0], "--threads", before + 1, "--allow-changed")
    assert code == 0, err
    assert torch.get_num_threads() == before + 1
    code, _, err = run("search", "--resume", searched[0], "--threads", before, "--allow-changed")
    assert code == 0 and torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bugdet: 80ms\n", ["unknown option 'bugdet'", "budget"]),
        ("epochs: many\n", ["epochs: 'many'", "integer"]),
        ("seed: -1\n", ["seed: -1", "allowed: 0 to "]),
        ("epochs: 0\n", ["epochs: 0", "allowed: 1 or more"]),
        ("- a\n- b\n", ["holds no options", "option: value"]),
        ("a: [\n", ["is not YAML"]),
        ("budget: !!python/object/apply:os.getcwd []\n", ["is not YAML"]),
    ],
)
def test_a_wrong_configuration_file_is_a_users_mistake(tmp_path: Path, text: str, says: list[str]) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    message = refused("search", "--config", file, "--out", tmp_path / "run")
    assert all(part in message for part in [*says, "mine.yaml"]), message
    assert "nothing.yaml" in refused("search", "--config", tmp_path / "nothing.yaml")


def test_a_configuration_file_takes_numbers_and_lists_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "space: mobile-small\nbudget: 0.9MMACs\nkernels: 3\nexpansions: [3, 6]\nwidth: 0.5\n"
    )
    found = printed("check", "--config", tmp_path / "a.yaml", "--input-size", 16)
    assert "kernels=(3,)" in found["space"] and "width=0.5" in found["space"] and found["space_size"] == 2**3 * 3**6


def test_a_table_of_another_device_is_a_device(tmp_path: Path) -> None:
    table = table_of("mobile-small(width=0.5, input_size=16)")
    (tmp_path / "far.json").write_text(table.to_json())
    space = make(table.space)
    found = printed(
        "latency", "--architecture", space.string(space.largest()), "--device", tmp_path / "far.json"
    )  # fmt: skip
    assert found["predicted_ms"] == pytest.approx(table.costs(space).largest) and found["measured_ms"] is None


def test_measure_writes_a_table_that_check_and_latency_take(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    text = "mobile-small(width=0.5, input_size=16, kernels=(3,))"
    found = printed("measure", "--space", text, "--quick", "--out", tmp_path / "host.json")
    table, space = LatencyTable.load(tmp_path / "host.json"), make(text)
    costs = table.costs(space)
    assert found["smallest_ms"] == costs.smallest < found["largest_ms"] == costs.largest
    assert found["validation"]["networks"] > 0 and table.runtime == "onnxruntime" and table.measurable
    checked = printed("check", "--space", text, "--device", tmp_path / "host.json", "--budget", "60%")
    assert checked["budget_ms"] == pytest.approx(0.6 * costs.largest) and checked["target_ms"] <= checked["budget_ms"]
