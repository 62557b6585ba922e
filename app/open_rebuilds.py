"""The sources and models of the rebuilds that this process works on: opened once each, used by one thread at a time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from app.job_spans import JobSpans
from app.rebuild_steps import LoadHasher, Places, RebuildSteps, Request


class OpenRebuilds:
    """The steps of rebuilds, by job."""

    def __init__(self, jobs_dir: Path, places: Places, load_hasher: LoadHasher, spans: JobSpans) -> None:
        self._jobs_dir = jobs_dir
        self._places = places
        self._load_hasher = load_hasher
        self._spans = spans
        self._steps: dict[str, RebuildSteps] = {}
        self._changed = threading.Condition()
        self._in_hand: Counter[str] = Counter()  # shards by job
        self._encodes = threading.Lock()

    def new(self, job_id: str, request: Request) -> RebuildSteps:
        """Steps with nothing opened, to clean up behind a job."""
        return RebuildSteps(request, self._jobs_dir / job_id, self._places, self._load_hasher, self._spans)

    def steps(self, job_id: str, request: Request) -> RebuildSteps:
        """The steps of a job, which stay open until ``close`` or ``close_ended``."""
        with self._changed:
            return self._steps.setdefault(job_id, self.new(job_id, request))

    @contextmanager
    def in_hand(self, job_id: str) -> Iterator[None]:
        """A shard of the job is worked on: the job stays open."""
        with self._changed:
            self._in_hand[job_id] += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_hand[job_id] -= 1
                self._changed.notify_all()

    def turn(self) -> AbstractContextManager[object]:
        """One shard at a time is encoded, and the next waits here; meanwhile another may be written and recorded."""
        return self._encodes

    def close(self, job_id: str) -> None:
        """Let go of a job, once none of its shards is in hand here."""
        with self._changed:
            self._changed.wait_for(lambda: not self._in_hand[job_id])
            steps = self._steps.pop(job_id, None)
        if steps is not None:
            steps.close()

    def close_ended(self, is_over: Callable[[str], bool]) -> None:
        """Let go of the jobs of other workers that are over."""
        with self._changed:
            opened = list(self._steps)  # asking who is over takes a while, and others open jobs meanwhile
        for job_id in filter(is_over, opened):
            with self._changed:
                steps = None if self._in_hand[job_id] else self._steps.pop(job_id, None)
            if steps is not None:
                steps.close()
