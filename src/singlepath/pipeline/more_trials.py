"""More trials for a tuning that has ended or was interrupted.

Its trials stand as they are, and those added are the ones that a tuning of so many from the start makes: the ledger
grows by their shares. What an ended tuning said is put aside, since another network may be found.

Everything is checked first (`more_trials`); then, once the images are known to be the same and config.yaml has the new
number, tuning.json gets it, and what was said goes, the summary last (`make_room`). A process killed between any two of
these is gone on with by a plain --resume.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from singlepath.errors import user_error
from singlepath.pipeline.outcome import put_aside
from singlepath.pipeline.progress import note
from singlepath.pipeline.trainings import WEIGHTS
from singlepath.pipeline.tuning_size import Size
from singlepath.runs import Run, read_config, read_json
from singlepath.search.hyper import ENOUGH, hits

__all__ = ["make_room", "more_trials"]

OF_AN_ENDED_ONE = ("report.html", "direct", "result.json", "summary.json")


def more_trials(run: Run, options: dict[str, Any]) -> Size | None:
    """The tuning's size with the trials that its options ask for; None where none are to be added. Nothing is changed.

    Raises:
        UserError: they cannot be added; the message says why.
    """
    if not run.has("tuning.json"):
        return None
    size = Size(**run.read("tuning.json"))
    count = options["trials"] or size.trials
    bounded = options["passes"] and "trials" not in run.moved  # at the start: as many of them as its passes allow
    if count != size.trials and not bounded:
        if reason := in_the_way(run.path, options, count, size):
            raise user_error(f"--trials {count}", *reason)
        return size._replace(trials=count, total=size.total + (count - size.trials) * size.share)
    left = run.has("summary.json") and run.read("summary.json")["ledger"]["total"] != size.total
    return size if left else None  # by a process that was killed in `make_room`


def make_room(run: Run, size: Size) -> None:
    """Keep the new size, and put aside what was said with fewer trials."""
    run.write("tuning.json", size._asdict())
    if any((run.path / name).exists() for name in OF_AN_ENDED_ONE):
        note(f"what the tuning said so far is in {put_aside(run.path, OF_AN_ENDED_ONE)}")


def in_the_way(run: Path, options: dict[str, Any], count: int, size: Size) -> tuple[str, str] | None:
    """Why so many trials cannot be had, and what to type."""
    anew = f"type: singlepath tune --config {run} --trials {count} --out NEW"
    if options["passes"]:
        return f"--passes {options['passes']} bounds the run in {run}", f"{anew} --passes MORE"
    if (run / WEIGHTS).is_file() or trainings(run):
        return f"a training of the network that the run in {run} found has begun; more trials may find another", anew
    if (met := networks_that_hit(run)) >= ENOUGH:
        return f"{met} networks of the run in {run} hit the target, so no trial would be added", f"{anew} --seed OTHER"
    shared = run / "trials" / "shared"
    if (shared / "config.yaml").is_file() and not any(shared.glob("checkpoints/*.pt")):
        return f"{shared} has lost the weights that new trials begin with", anew
    if count < size.trials:
        return f"the run in {run} has {size.trials}; allowed: more", f"type --trials {size.trials + 1}"
    return None


def trainings(run: Path) -> list[Path]:
    """Folders of the run that hold a training of its network, finished or not."""
    return [f.parent for f in run.glob("*/config.yaml") if "network" in read_config(f.parent)["options"]]


def networks_that_hit(run: Path) -> int:
    """Of a tuning that has ended."""
    if not (run / "result.json").is_file():
        return 0
    said = read_json(run / "result.json").get("tuning", {"trials": []})  # none where it was killed just before that
    return sum(t["cost"] is not None and hits(t["cost"], said["target"]) for t in said["trials"])
