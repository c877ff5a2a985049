"""Engines: the same records wherever trials run, also when the process of one is killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.bench.trials import SECONDS

from singlepath.bench import engines, ray_cluster, records
from singlepath.bench.engines import Engine, make_engine
from singlepath.bench.protocol import Comparison, Job, contenders_of, fill, trials_of
from singlepath.bench.tabular import RUN, opened, protocol_of
from singlepath.errors import SinglepathError, UserError

ROOT = Path(__file__).resolve().parents[2]
HERE = {"data": "", "cost": ""}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find `tests.bench.trials`."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def jobs(run: str = RUN, marks: Path | None = None, seeds: int = 3) -> list[Job]:
    compared = Comparison(("toy",), contenders_of(["random", "local"]), queries=25, seeds=seeds, networks=2)
    trials = trials_of(compared, "toy", protocol_of(opened("toy", "", ""), ""))
    return [Job(run, {**HERE, "marks": str(marks)} if marks else HERE, trials)]


def files(folder: Path) -> dict[str, str]:
    """Every record as it was written, without the code's commit: somebody may commit while this runs."""
    return {path.name: re.sub(r'"commit": [^,]*, ', "", path.read_text()) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every record of the comparison, made in this process."""
    folder = tmp_path_factory.mktemp("here")
    assert len(fill(folder, jobs(), make_engine("local", workers=0))) == 8
    return files(folder)


def killing(marks: Path, ended: list[int]) -> threading.Thread:
    """Kills the first process that waits for it; on a busy machine it takes minutes to start one."""

    def watch() -> None:
        deadline = time.monotonic() + 300
        while not ended and time.monotonic() < deadline:
            for mark in list(marks.glob("*-1"))[:1]:
                ended.append(int(mark.read_text()))
                os.kill(ended[0], signal.SIGKILL)
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def filled_under_fire(folder: Path, engine: Engine) -> list[int]:
    """Make the searches' records while the process of one is killed; that process."""
    (marks := folder / "marks").mkdir()
    ended: list[int] = []
    thread = killing(marks, ended)
    made = jobs("tests.bench.trials:killed_once", marks)
    fill(folder / "records", made, engine, workers=1)
    thread.join()
    return ended


# -- processes of this machine ----------------------------------------------------------------------------------------


def test_a_killed_process_costs_nothing_but_time(tmp_path: Path, wanted: dict[str, str]) -> None:
    said: list[str] = []
    ended = filled_under_fire(tmp_path, make_engine("local", workers=1, say=said.append))
    assert len(ended) == 1 and os.getpid() not in ended
    assert files(tmp_path / "records") == wanted
    assert len(said) == 1 and said[0].endswith("on toy, seed 1, was ended by signal 9: the trial runs again")


def test_a_process_that_is_always_lost_ends_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "RETRIES", 1)
    with pytest.raises(SinglepathError, match="ended by signal 9, 2 times in a row"):
        fill(tmp_path, jobs("tests.bench.trials:killed_always", seeds=1), make_engine("local", workers=1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_trial_that_fails_is_named_and_the_others_are_kept(
    tmp_path: Path, workers: int, wanted: dict[str, str]
) -> None:
    with pytest.raises(SinglepathError, match=r"^random on toy, seed 2, failed: ZeroDivisionError: by zero$") as caught:
        fill(tmp_path, jobs("tests.bench.trials:failing"), make_engine("local", workers=workers))
    assert not isinstance(caught.value, UserError), "it is a failure of ours"
    found = files(tmp_path)
    assert len(found) == 2 and found.items() <= wanted.items()


def test_a_users_mistake_in_a_process_is_one_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no; allowed: yes; type yes$"):
        fill(tmp_path, jobs("tests.bench.trials:refused"), make_engine("local", workers=1))


def test_processes_end_with_the_comparison(tmp_path: Path) -> None:
    """Also one that is left in the middle of a long trial, by Ctrl-C or by an error of the caller."""
    seen: list[int] = []
    (marks := tmp_path / "marks").mkdir()
    started = time.monotonic()

    def stop(done, count: int, total: int) -> None:
        if done is not None:
            seen.append(done.process)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(
            tmp_path / "kept", jobs("tests.bench.trials:killed_once", marks), make_engine("local", workers=1), told=stop
        )
    assert seen and seen[0] != os.getpid() and time.monotonic() - started < SECONDS / 2
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)
    assert len(files(tmp_path / "kept")) == 1, "what had ended is kept"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"name": "loca"}, ["unknown engine 'loca'", "local, ray", "type --engine local"]),
        ({"name": "local", "workers": -1}, ["--workers -1", "0 or more"]),
        ({"name": "ray", "workers": 0}, ["--workers 0", "1 or more"]),
        ({"name": "local", "address": "auto"}, ["--address auto", "type --engine ray"]),
        ({"name": "local", "gpus": 0.5}, ["--gpus 0.5", "type --engine ray"]),
        ({"name": "ray", "gpus": -1.0}, ["--gpus -1", "from 0", "type --gpus 0"]),
        ({"name": "ray", "cpus": float("nan")}, ["--cpus nan", "from 0", "type --cpus 1"]),
        ({"name": "ray", "gpus": float("nan")}, ["--gpus nan", "from 0", "type --gpus 0"]),
        ({"name": "ray", "cpus": float("inf")}, ["--cpus inf", "from 0", "type --cpus 1"]),
        ({"name": "ray", "gpus": 1.5}, ["--gpus 1.5", "whole numbers", "type --gpus 2"]),
    ],
)
def test_wrong_options(options: dict, says: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make_engine(**options)
    assert all(part in str(caught.value) for part in says), caught.value


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"'ray' is not installed.*singlepath\[ray\]"):
        make_engine("ray")


def test_an_address_where_no_ray_is_says_so_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound and not listened to: nobody answers
        started = time.monotonic()
        with pytest.raises(UserError, match=rf"no Ray at {address} .* type ray start --head there"):
            fill(tmp_path, jobs(), make_engine("ray", address=address))
    assert time.monotonic() - started < SECONDS / 2


JOINED = """
import sys
from pathlib import Path

from tests.bench.test_engines import jobs

from singlepath.bench.engines import make_engine
from singlepath.bench.protocol import fill
from singlepath.errors import UserError

for cpus in (64, 1):
    try:
        print(len(fill(Path(sys.argv[2]), jobs(seeds=1), make_engine("ray", address=sys.argv[1], cpus=cpus))))
    except UserError as error:
        print(error)
"""


def test_a_ray_that_wants_a_token_is_joined_and_asked_for_what_it_has(tmp_path: Path) -> None:
    """A Ray in processes of its own, with a home of its own in which there is a token."""
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as home, socket.socket() as free:
        (token := Path(home) / ".ray" / "auth_token").parent.mkdir()
        token.write_text("0123456789abcdef" * 2)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        env = {**kept, "HOME": home, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
        start = [
            "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=1",
            "--include-dashboard=false", f"--temp-dir={home}/r",
        ]  # fmt: skip
        head = subprocess.Popen(
            [sys.executable, "-c", "from ray.scripts.scripts import main; main()", *start],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(port, head)
            client = [sys.executable, "-c", JOINED, f"127.0.0.1:{port}", str(tmp_path / "records")]
            ended = subprocess.run(client, env=env, capture_output=True, text=True, timeout=90, cwd=ROOT, check=False)
        finally:
            head.terminate()
            with suppress(subprocess.TimeoutExpired):
                head.wait(20)
            with suppress(ProcessLookupError):  # whatever of it is left
                os.killpg(head.pid, signal.SIGKILL)
    assert ended.stdout.splitlines() == [
        "--cpus 64 --gpus 0; the largest machine of this Ray has 1 and 0; type --cpus 1 --gpus 0", "4",
    ], ended  # fmt: skip


def wait_for(port: int, head: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and head.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.1)
    raise AssertionError("the Ray to be joined did not start")


@pytest.mark.parametrize("accepts", ["token", None])
def test_a_token_is_presented_first_and_left_out_where_that_fails(
    accepts: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str | None] = []

    class Unauthenticated(Exception):
        pass

    def init(**_: object) -> None:
        tried.append(os.environ.get("RAY_AUTH_MODE"))
        if tried[-1] != accepts:
            raise Unauthenticated("no")

    package = SimpleNamespace(init=init, shutdown=lambda: None, exceptions=SimpleNamespace(RayError=Unauthenticated))
    monkeypatch.setattr(ray_cluster, "_answers", lambda address: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    (tmp_path / "with" / ".ray").mkdir(parents=True)
    (tmp_path / "with" / ".ray" / "auth_token").write_text("x")
    ways = {"RAY_AUTH_TOKEN": "x", "RAY_AUTH_TOKEN_PATH": "there", "HOME": str(tmp_path / "with")}
    for name, value in ways.items():
        tried.clear()
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            ray_cluster.join(package, "auto")
        assert tried == (["token"] if accepts else ["token", None])
        os.environ.pop("RAY_AUTH_MODE", None)
    tried.clear()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(UserError, match=r"no Ray at auto \(no\); .* RAY_AUTH_MODE have to be the same on both sides"):
        ray_cluster.join(package, "auto")
    assert tried == ["disabled"], "what was said is kept"


# -- Ray --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A Ray of two processors that all tests here join: starting one takes seconds."""
    package = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        package.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        yield
        package.shutdown()


def test_ray_gives_what_processes_here_give_and_a_killed_one_runs_again(
    ray: None, tmp_path: Path, wanted: dict[str, str]
) -> None:
    ended = filled_under_fire(tmp_path, make_engine("ray", workers=2, cpus=0.5))
    assert len(ended) == 1 and os.getpid() not in ended
    assert files(tmp_path / "records") == wanted


def test_errors_come_back_from_ray(ray: None, tmp_path: Path) -> None:
    engine = make_engine("ray", workers=2)
    with pytest.raises(SinglepathError, match=r"on toy, seed 2, failed: ZeroDivisionError: by zero$"):
        fill(tmp_path, jobs("tests.bench.trials:failing"), engine)
    with pytest.raises(UserError, match=r"^no; allowed: yes; type yes$"):
        fill(tmp_path / "other", jobs("tests.bench.trials:refused"), engine)
    assert all(r.trial.search_seed != 2 for r in records.read(tmp_path))
