"""kill -9 at every point of a rebuild that changes the disk; scripts do the killing in processes of their own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).parent.parent / "support"


def run(script: str, home: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SUPPORT / script), str(home)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def around(*steps: str) -> set[str]:
    return {f"{step}: {when}" for step in steps for when in ("before", "after")}


@pytest.mark.slow
def test_a_rebuild_survives_a_kill_at_every_point(tmp_path: Path) -> None:
    report = run("kill_rebuild.py", tmp_path / "home")
    assert around("write", "verify", "catch_up", "swap", "prune") < set(report["killed"])
    assert len(report["killed"]) > 30
    assert report["seen"] == sorted(report["seen"])
    assert report["generations"] == [1, report["seen"][-1]]
    assert report["jobs"] == ["locks", "workers"]
    assert report["unfinished"] == []


@pytest.mark.slow
def test_no_kill_of_a_rebuild_loses_or_resurrects_an_edit(tmp_path: Path) -> None:
    report = run("kill_rebuild_edits.py", tmp_path / "home")
    steps = [f"encode_shard {number}" for number in range(2)]
    assert around("plan", *steps, "write", "verify", "catch_up", "swap", "prune") < set(report["killed"])
    assert {name for name in report["killed"] if name.startswith(("catch_up: fsync", "swap: fsync", "swap: rename"))}
    assert report["edits"] > len(report["killed"]) / 2
    assert report["generations"][0] == 1 < report["generations"][-1]
    assert report["generations"] == sorted(report["generations"])
