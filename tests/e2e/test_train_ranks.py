"""Training on two processes that ``torchrun`` starts: the losses of one, one artifact, kill -9, and errors on both."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torchrun

FIXTURES = Path(__file__).parent.parent / "fixtures"
SCRIPT = Path(__file__).parent.parent / "support" / "train_ranks.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
CROSSBIT = [*TORCHRUN, "--no-python", sys.executable, "-c", "from app.cli import main; main()"]
TINY = ["backbone=clip:crossbit-tiny:random", "config.bits=[16, 32]"]
SMALL = [*TINY, "config.width=64", "config.hidden=64", "selection.bits=16"]
# of 100 items, so that the last step of an epoch is a short one
TRAINED = [*SMALL, "selection.every=17", "optimiser.batch=40", "optimiser.epochs=17"]
RECIPES = ("baseline", "baseline-pair", "prompthash", "pghmh", "pghmh-lite", "soda", "crossbit")
OTHERS = {
    # text tower's blocks with dropout, groups of texts by length, gradients clipped one by one
    "ph-tuned": ["prompthash", "config.tuned_blocks=1", "config.taap=true", "config.predicted_prompt=false"],
    # what every rank does for itself, beside what is shared; at the recipe's rate a change in the last digit of a step
    # is one of 0.003 after fifty, on one process as well
    "ph-all": [
        "prompthash",
        "config.taap=true",
        "config.agsf=true",
        "config.teacher=1.0",
        "config.local=1.0",
        "optimiser.rate=3e-4",
    ],
    # parameters before the gathering that no rows pass
    "soda-learned": ["soda", "config.label_prompt=learned", "config.image_rate=0.1", "config.info_nce=0.1"],
}
RUNS = {name: (name, TRAINED) for name in RECIPES}
RUNS |= {name: (recipe, [*TRAINED, *more]) for name, (recipe, *more) in OTHERS.items()}
RUNS["itq"] = ("itq", TINY)
WAIT_S = 400


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process made, and what two did."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    runs = one / "runs.json"
    runs.write_text(json.dumps(RUNS))
    for command, home in (([sys.executable], one), (TORCHRUN, two)):
        done = subprocess.run(
            [*command, str(SCRIPT), str(home), str(runs)], capture_output=True, text=True, check=False, timeout=WAIT_S
        )
        assert done.returncode == 0, done.stderr
    return one, two


def lines(path: Path) -> list[Any]:  # JSON
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", [name for name in RUNS if name != "itq"])
def test_two_processes_have_the_losses_of_one(homes: tuple[Path, Path], name: str) -> None:
    one, two = (lines(home / "steps" / f"{name}.jsonl") for home in homes)
    assert len(one) == len(two) == 51
    for step, (expected, found) in enumerate(zip(one, two, strict=True)):
        assert found == pytest.approx(expected, abs=1e-4), f"step {step}"
    logged, epochs = (lines(home / "runs" / name / "metrics.jsonl") for home in homes)
    assert [line["world_size"] for line in logged] == [1] * 17
    assert [line["world_size"] for line in epochs] == [2] * 17
    assert all(b["losses"] == pytest.approx(a["losses"], abs=1e-4) for a, b in zip(logged, epochs, strict=True))


def test_what_is_solved_in_closed_form_is_the_same_artifact(homes: tuple[Path, Path]) -> None:
    one, two = (json.loads((home / "artifacts" / "itq" / "manifest.json").read_text()) for home in homes)
    assert one["fingerprints"] == two["fingerprints"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a home with a small data set."""
    (tmp_path / "data" / "small").mkdir(parents=True)
    shutil.copy(FIXTURES / "openclipart-200.zip", tmp_path / "data" / "small" / "archive.zip")
    return os.environ | {"CROSSBIT_HOME": str(tmp_path), "CROSSBIT_DEVICE": "cpu"}


def train(name: str, *overrides: str) -> list[str]:
    """The command."""
    settings = [*SMALL, "optimiser.batch=50", *overrides]
    sets = [part for one in settings for part in ("--set", one)]
    return [*CROSSBIT, "train", "baseline", "--data", "small", "--name", name, *sets]


@pytest.fixture
def processes() -> Iterator[list[int]]:
    """Ends those that a failed test left."""
    started: list[int] = []
    yield started
    for one in started:
        if Path(f"/proc/{one}").exists():
            os.kill(one, signal.SIGKILL)


def children(process: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_killed_process_ends_the_other_and_the_run_goes_on_as_if_nothing_had_been(
    environment: dict[str, str], tmp_path: Path, processes: list[int]
) -> None:
    log = tmp_path / "runs" / "cut" / "metrics.jsonl"
    with (tmp_path / "output").open("w") as output:
        cut = subprocess.Popen(train("cut", "optimiser.epochs=80"), env=environment, stdout=output, stderr=output)
        processes.append(cut.pid)
        end = time.monotonic() + WAIT_S
        while not log.is_file() or len(log.read_text().splitlines()) < 3:
            assert time.monotonic() < end, "no epoch in time"
            assert cut.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.01)
        workers = children(cut.pid)
        processes += workers
        os.kill(workers[1], signal.SIGKILL)
        assert cut.wait(WAIT_S) != 0
    assert not any(Path(f"/proc/{one}").exists() for one in workers)
    assert 3 <= len(log.read_text().splitlines()) < 80
    assert not (tmp_path / "artifacts" / "cut").exists()
    for name in ("cut", "whole"):
        done = subprocess.run(
            [*train(name, "optimiser.epochs=80"), "--json"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["artifact"] == name  # said once
    assert [line["epoch"] for line in lines(log)] == list(range(1, 81))
    cut_short, whole = (
        json.loads((tmp_path / "artifacts" / name / "manifest.json").read_text()) for name in ("cut", "whole")
    )
    assert cut_short["fingerprints"] == whole["fingerprints"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.rate=1e30", "expected a finite loss"),
        ("optimiser.batch=41", "optimiser.batch: expected a multiple of 2, the number of processes, found 41"),
    ],
)
def test_an_error_ends_both(environment: dict[str, str], tmp_path: Path, override: str, message: str) -> None:
    done = subprocess.run(
        train("bad", override), env=environment, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "artifacts").exists()
