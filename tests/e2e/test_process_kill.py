"""kill -9 of the worker, of the server, and of both, at every step; ``kill_processes`` does it to its own processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kill_rebuild import STEPS

SCRIPT = Path(__file__).parent.parent / "support" / "kill_processes.py"
SHARDS = ("encode_shard 0", "encode_shard 1")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "server", "both"])
def test_a_rebuild_and_its_server_survive_a_kill_at_every_step(tmp_path: Path, victim: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(tmp_path / "home"), victim],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    steps = [one for step in STEPS for one in (SHARDS if step == "encode_shard" else (step,))]
    points = [f"{step}: {when}" for step in steps for when in ("before", "after")]
    assert sorted(report["killed"]) == sorted(points)  # shards are taken in any order
    assert (report["job"]["state"], report["job"]["done"], report["items"]) == ("done", 103, 103)
    assert report["seen"] == sorted(report["seen"])
    assert report["seen"][-1] == 2
    # a shard is encoded again only where the kill came between its last item and the note that it is finished
    assert report["encoded"] == [1 if victim == "server" else 2]
    assert report["leftovers"] == []
