"""Runs one rebuild to its end in a chain of processes, each killed at the first point where none was killed before.

Points lie before and after every step, before every fsync, and before and after every rename. After each kill the index
must open with all its checksums; the last line on standard output is a JSON report for the test that started this.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fake_artifact import write_fake_artifact
from tiny_home import DATA, FUSING, load_fake, make_home

import app.rebuild
import app.rebuild_steps
import app.shards
from app.jobs import JobState
from app.rebuild import RebuildWorker
from app.rebuild_queue import RebuildQueue
from app.rebuild_steps import RebuildSteps
from app.settings import Settings
from index.generations import IndexDirectory
from index.snapshot import Snapshot

STEPS = ("plan", "encode_shard", "write", "verify", "catch_up", "swap", "prune")
INDEX = "demo"
KEY = "the only job"
SHARD_ITEMS = 64  # two batches: each process does again what the one before had not finished


def work(home: Path, wanted: Mapping[str, Any], point: Callable[[str], None] | None) -> None:
    """Start or resume the job that makes what is wanted and see it through; ``point`` is told where the process is."""
    if point is not None:
        mark_points(point)
    settings = Settings(home=home)
    queue = RebuildQueue(settings)
    queue.open()
    worker = RebuildWorker(settings, queue, load_hasher=load_fake)
    worker.launch()
    job = queue.start(INDEX, source=DATA, idempotency_key=f"{KEY} {wanted}", **wanted)
    while not job.state.final:
        time.sleep(0.02)
        job = queue.get(job.id)
    if (job.state, job.done) != (JobState.DONE, job.total):
        raise SystemExit(f"unexpected end: {job}")
    worker.close()
    queue.close()


def hurry() -> None:
    """Small shards, no pause between looks at the queue, and as many attempts as there are kills."""
    app.shards.SHARD_ITEMS = app.rebuild_steps.SHARD_ITEMS = SHARD_ITEMS
    app.rebuild.POLL_S, app.rebuild.MAX_ATTEMPTS = 0.02, 10_000


def mark_points(told: Callable[[str], None]) -> None:
    """Call ``told`` around everything in a rebuild that changes the disk, in one thread at a time."""
    at, one_at_a_time = threading.local(), threading.RLock()  # while one shard is written another is encoded

    def point(name: str) -> None:
        with one_at_a_time:
            told(name)

    def around(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def marked(self: RebuildSteps, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - any step
            at.step = name + "".join(f" {arg}" for arg in args if isinstance(arg, int))
            point(f"{at.step}: before")
            result = call(self, *args, **kwargs)
            point(f"{at.step}: after")
            return result

        return marked

    for name in STEPS:
        setattr(RebuildSteps, name, around(name, getattr(RebuildSteps, name)))
    fsync, replace = os.fsync, os.replace
    calls: dict[str, int] = {}

    def here(what: str) -> str:
        step = getattr(at, "step", "")
        calls[f"{step} {what}"] = calls.get(f"{step} {what}", 0) + 1
        return f"{step}: {what} {calls[f'{step} {what}']}"

    def marked_fsync(descriptor: int) -> None:
        point(here("fsync"))
        fsync(descriptor)

    def marked_replace(source: Any, target: Any) -> None:  # noqa: ANN401 - any path
        where = here("rename")
        point(f"{where}, before")
        replace(source, target)
        point(f"{where}, after")

    os.fsync, os.replace = marked_fsync, marked_replace


def check_served(home: Path, seen: list[int]) -> None:
    """The index opens, and a generation that was once served is followed by no older one."""
    with Snapshot.open(home / "indexes" / INDEX) as snapshot:
        model = "first" if snapshot.generation == 1 else FUSING
        fused = snapshot.presence_counts().image_and_text
        if snapshot.manifest.artifact != model or snapshot.generation < seen[-1]:
            raise SystemExit(f"served {snapshot.manifest} after generation {seen[-1]}")
        if fused != (snapshot.manifest.items if model == FUSING else 0):
            raise SystemExit(f"served {fused} pairs among {snapshot.manifest.items} items")
        seen.append(snapshot.generation)


def main(home: Path) -> None:
    hurry()
    make_home(home, 2 * SHARD_ITEMS)
    write_fake_artifact(home / "artifacts" / FUSING)
    run(lambda: work(home, {"model": "first"}, None))
    killed: list[str] = []
    seen = [1]
    log = home / "killed"

    def point(name: str) -> None:
        if name not in killed:
            log.write_text(name, encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)

    while True:
        status = run(lambda: work(home, {"model": FUSING}, point))
        check_served(home, seen)
        if status == 0:
            break
        killed.append(log.read_text(encoding="utf-8"))
    jobs = sorted(path.name for path in (home / "jobs").iterdir() if path.is_dir())
    unfinished = [path.name for path in (home / "indexes").glob("*/*.tmp") if path.is_dir() and any(path.iterdir())]
    report = {
        "killed": killed,
        "seen": seen,
        "generations": IndexDirectory(home / "indexes" / INDEX).generations(),
        "jobs": jobs,
        "unfinished": unfinished,
    }
    sys.stdout.write(json.dumps(report) + "\n")


def run(call: Callable[[], None]) -> int:
    """Call in a forked process; returns 0, or the signal that killed it."""
    child = os.fork()
    if child == 0:
        call()
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    if os.WEXITSTATUS(status):
        raise SystemExit(f"a worker failed with {os.WEXITSTATUS(status)}")
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
