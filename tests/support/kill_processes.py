"""Runs one rebuild by a worker beside a server, and kills one of them, or both, before and after every step.

After each kill what died is started again, and the server must answer with the right pair of generation and model from
an index that opens with all its checksums. The last line on standard output is a JSON report.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import uvicorn
from kill_rebuild import SHARD_ITEMS, hurry, mark_points
from tiny_home import DATA, load_fake, make_home
from watched_worker import ENCODED, WatchedHasher

import app.rebuild
from app.building import SAMPLE_ITEMS
from app.index_commands import build
from app.jobs_lock import LOCKS, WORKERS
from app.main import create_app
from app.rebuild import RebuildWorker
from app.rebuild_queue import RebuildQueue
from app.rebuild_steps import Request as Rebuild
from app.serving import bind
from app.settings import Settings
from index.snapshot import Snapshot

INDEX = "demo"
MODELS = {1: "first", 2: "second"}  # of the generations
QUERY = {"query": "title 7", "target": "text", "limit": 1}
WAIT_S = 30.0


def fork(call: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        call()
        os._exit(0)
    return child


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(0.01)


class Stage:
    """The processes, and what is known of them."""

    def __init__(self, home: Path, victim: str) -> None:
        self.home = home
        self.victim = victim
        self.killed: list[str] = []
        self.seen = [1]  # generations that were served
        self.server = 0
        self.workers = 0
        self._note = home / "point"  # the worker is at this point

    def settings(self, **changes: Any) -> Settings:  # noqa: ANN401 - any setting
        return Settings(home=self.home, log_level="error", worker="none", refresh_s=0.02, **changes)

    def start_server(self) -> None:
        port = self.home / "port"
        port.unlink(missing_ok=True)

        def serve() -> None:
            with bind("127.0.0.1", 0) as listener:
                config = uvicorn.Config(create_app(self.settings(), load_hasher=load_fake), log_config=None)
                port.with_suffix(".new").write_text(str(listener.getsockname()[1]))
                port.with_suffix(".new").rename(port)
                uvicorn.Server(config).run(sockets=[listener])

        self.server = fork(serve)
        wait_for(port.exists)
        self.url = f"http://127.0.0.1:{port.read_text()}"
        wait_for(self._is_ready)

    def start_worker(self) -> int:
        """Each has another name than the one before, and so has to find out that that one is dead."""
        self.workers += 1
        settings = self.settings(worker_id=f"worker-{self.workers % 2}", worker_timeout_s=0.2, threads=1)

        def work() -> None:
            mark_points(self._reach)
            queue = RebuildQueue(settings)
            queue.open()
            worker = RebuildWorker(
                settings, queue, load_hasher=lambda path, bits, device: WatchedHasher(self.home, bits, path.name)
            )
            worker.launch()
            while any(not job.state.final for job in queue.list()):
                time.sleep(0.02)
            worker.close()
            queue.close()

        return fork(work)

    def _reach(self, point: str) -> None:
        """In the worker: kill at the first sight of a point before or after a step."""
        if "fsync" in point or "rename" in point or point in self.killed:
            return
        self.killed.append(point)
        if self.victim != "worker":
            os.kill(self.server, signal.SIGKILL)
        self._note.with_suffix(".new").write_text(point)
        self._note.with_suffix(".new").rename(self._note)
        if self.victim != "server":
            os.kill(os.getpid(), signal.SIGKILL)
        wait_for(lambda: not self._note.exists())
        self.server = int((self.home / "server").read_text())

    def run(self) -> None:
        """See the job through."""
        worker = self.start_worker()
        while True:
            ended, status = os.waitpid(worker, os.WNOHANG)
            if self._note.exists() and (ended or self.victim == "server"):
                self.killed += [point] if (point := self._note.read_text()) not in self.killed else []
                self._restore()
                if ended:
                    worker = self.start_worker()
                self._note.unlink()
            elif ended:
                if status:
                    raise SystemExit(f"a worker ended with {status}")
                return
            time.sleep(0.005)

    def _restore(self) -> None:
        if self.victim != "worker":
            os.waitpid(self.server, 0)
            self.start_server()
            (self.home / "server").write_text(str(self.server))
        self.check()

    def check(self) -> None:
        """What is served is right and no older than what was served before, and what is on disk is whole."""
        answer = self.ask("/v1/search/text", QUERY)
        (hit,), generation = answer["hits"], answer["index"]["generation"]
        if (hit["id"], hit["distance"], answer["model"]["name"]) != ("item-0007", 0, MODELS[min(generation, 2)]):
            raise SystemExit(f"served {answer}")
        with Snapshot.open(self.home / "indexes" / INDEX) as snapshot:
            if not self.seen[-1] <= generation <= snapshot.generation:
                raise SystemExit(f"served {generation} after {self.seen[-1]}, on disk {snapshot.generation}")
        self.seen.append(generation)

    def ask(self, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        data = None if body is None else json.dumps(body).encode()
        request = Request(  # noqa: S310 - our own server
            self.url + path,
            data,
            {"content-type": "application/json", "idempotency-key": f"the only job, {self.victim}"},
        )
        with urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310
            return json.load(answer)

    def _is_ready(self) -> bool:
        with suppress(OSError):
            return self.ask("/readyz") is not None
        return False


def main(home: Path, victim: str) -> None:
    hurry()
    app.rebuild.AT_ONCE = 1  # a kill meets one shard alone, and so counts are known; ``kill_rebuild`` kills amid two
    make_home(home, 2 * SHARD_ITEMS)
    stage = Stage(home, victim)
    request = Rebuild(INDEX, DATA, "first", 64, "first", reuse=True, dry_run=False)
    os.waitpid(fork(lambda: build(stage.settings(), request, load_fake)), 0)
    stage.start_server()
    job = stage.ask(f"/v1/indexes/{INDEX}/rebuild", {"model": "second"})
    stage.run()
    job = stage.ask(f"/v1/jobs/{job['id']}")
    wait_for(lambda: stage.ask("/v1/indexes")["indexes"][0]["model"]["name"] == "second")
    stage.check()
    os.kill(stage.server, signal.SIGKILL)
    os.waitpid(stage.server, 0)
    counts = Counter(int(one) for line in (home / ENCODED).read_text().splitlines() for one in line.split()[1:])
    sample = set(range(0, job["total"], job["total"] // SAMPLE_ITEMS)[:SAMPLE_ITEMS])
    report = {
        "job": job,
        "killed": stage.killed,
        "seen": stage.seen,
        "encoded": sorted({count for one, count in counts.items() if one not in sample}),
        "items": len(counts),
        "leftovers": [
            path.name for path in (home / "jobs").iterdir() if path.is_dir() and path.name not in (LOCKS, WORKERS)
        ],
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
