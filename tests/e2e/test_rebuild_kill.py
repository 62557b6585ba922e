"""kill -9 at every point of a rebuild that changes the disk; ``kill_rebuild`` does the killing in its own processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "support" / "kill_rebuild.py"


@pytest.mark.slow
def test_a_rebuild_survives_a_kill_at_every_point(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(tmp_path / "home")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    around = {f"{step}: {when}" for step in ("write", "verify", "swap", "prune") for when in ("before", "after")}
    assert around < set(report["killed"])
    assert len(report["killed"]) > 30
    assert report["seen"] == sorted(report["seen"])
    assert report["generations"] == [1, report["seen"][-1]]
    assert report["jobs"] == ["locks", "workers"]
    assert report["unfinished"] == []
