"""Rebuilds through the real workflow engine; one home for the module, one index for each test."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from jobs_database import execute
from PIL.Image import Image
from tiny_home import make_archive, make_home

import app.rebuild
import app.rebuild_queue
from app.building import BATCH_ITEMS, SAMPLE_ITEMS, SHARD_ITEMS
from app.jobs import Job, JobNotFound, JobState, ModelNotFound, RebuildRunning, SourceNotFound, WorkerTaken
from app.jobs_lock import LOCKS, WORKERS
from app.rebuild import RebuildWorker
from app.rebuild_queue import RebuildQueue
from app.rebuild_steps import RebuildSteps
from app.settings import Settings
from index.errors import IndexNotFound
from index.generations import IndexDirectory
from index.snapshot import Snapshot
from model.fake import FakeHasher
from model.hasher import EncodedBatch

ITEMS = 700
DATABASE = 560  # three shards
WAIT_S = 30.0


class Gate:
    """Lets some pictures through to the hashers and makes the others wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._limit: float = float("inf")
        self.encoded = 0

    def open(self) -> None:
        self.allow(float("inf"))

    def allow(self, items: float) -> None:
        """Let this many pictures pass from now on, and count from zero."""
        with self._changed:
            self._limit, self.encoded = items, 0
            self._changed.notify_all()

    def wait(self, images: Sequence[Image]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.encoded + len(images) <= self._limit, WAIT_S)
            self.encoded += len(images)


class GatedHasher(FakeHasher):
    def __init__(self, gate: Gate, bits: int, seed: str) -> None:
        super().__init__(bits, seed=seed)
        self._gate = gate

    def encode_images(self, images: Sequence[Image]) -> EncodedBatch:
        self._gate.wait(images)
        return super().encode_images(images)


class Home:
    """A home whose rebuilds run in this process."""

    def __init__(self, path: Path) -> None:
        self.settings = Settings(home=make_home(path, ITEMS), threads=1)  # pictures come to the gate in their order
        make_archive(path / "data" / "few-bad" / "archive.zip", 100, bad=(3, 7))
        make_archive(path / "data" / "many-bad" / "archive.zip", 100, bad=range(0, 100, 2))
        self.gate = Gate()
        self.swapped: list[str] = []
        self.swap_error: Exception | None = None
        self.serving = threading.Event()  # the server takes swaps
        self.serving.set()
        self.rebuilds = RebuildQueue(self.settings)

    def launch(self, **settings: object) -> None:
        self.worker = self.make_worker(**settings)
        self.worker.launch()

    def make_worker(self, **settings: object) -> RebuildWorker:
        return RebuildWorker(
            self.settings.model_copy(update=settings),
            self.rebuilds,
            load_hasher=lambda path, bits, device: GatedHasher(self.gate, bits, path.name),
            on_swap=self.serve,
        )

    def serve(self, index: str) -> None:
        self.swapped.append(index)
        assert self.serving.wait(WAIT_S)
        if self.swap_error is not None:
            raise self.swap_error

    def directory(self, index: str) -> IndexDirectory:
        return IndexDirectory(self.settings.indexes_dir / index)

    def wait(self, job: Job, until: Callable[[Job], bool] = lambda job: job.state.final) -> Job:
        deadline = time.monotonic() + WAIT_S
        while not until(job):
            assert time.monotonic() < deadline, job
            time.sleep(0.01)
            job = self.rebuilds.get(job.id)
        return job

    def build(self, index: str) -> Job:
        """Generation 1 of an index."""
        return self.wait(self.rebuilds.start(index, source="tiny", model="first"))

    def leftovers(self) -> list[str]:
        """Names under the home that only an unfinished job may have."""
        work = [path.name for path in self.settings.jobs_dir.iterdir() if path.is_dir()]
        work = [name for name in work if name not in (LOCKS, WORKERS)]
        return work + [path.name for path in self.settings.indexes_dir.glob("*/*.tmp")]


@pytest.fixture(scope="module")
def module_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.rebuild, "POLL_S", 0.05)
        patch.setattr(app.rebuild, "PROGRESS_S", 0.0)
        home = Home(tmp_path_factory.mktemp("home"))
        home.rebuilds.open()
        home.launch()
        yield home
        home.worker.close()
        home.rebuilds.close()


@pytest.fixture
def home(module_home: Home) -> Iterator[Home]:
    yield module_home
    module_home.gate.open()
    module_home.swap_error = None
    for job in module_home.rebuilds.list():
        module_home.wait(job)


def test_a_rebuild_makes_an_index_and_tells_the_server(home: Home) -> None:
    job = home.wait(home.rebuilds.start("new", source="tiny", model="first", bits=32))
    assert (job.state, job.done, job.total, job.skipped, job.error) == (JobState.DONE, DATABASE, DATABASE, (), None)
    assert job.rate is not None
    assert home.swapped[-1] == "new"
    with Snapshot.open(home.settings.indexes_dir / "new") as snapshot:
        manifest = snapshot.manifest
    assert (manifest.items, manifest.bits, manifest.artifact, manifest.source) == (DATABASE, 32, "first", "tiny")
    assert home.leftovers() == []


def test_what_is_not_given_stays_and_codes_are_reused(home: Home) -> None:
    home.build("same")
    home.gate.open()
    job = home.wait(home.rebuilds.start("same"))
    assert job.state is JobState.DONE
    assert home.gate.encoded == SAMPLE_ITEMS
    directory = home.directory("same")
    old, new = directory.manifest(1), directory.manifest(2)
    assert replace(old, generation=2, created="", files={}) == replace(new, created="", files={})
    assert old.files["image.codes"] == new.files["image.codes"]


def test_without_reuse_every_item_is_encoded(home: Home) -> None:
    home.build("anew")
    home.gate.open()
    home.wait(home.rebuilds.start("anew", reuse=False))
    assert home.gate.encoded == DATABASE + SAMPLE_ITEMS


def test_the_swap_activates_the_pair_and_rollback_restores_it(home: Home) -> None:
    home.build("pair")
    directory = home.directory("pair")
    before = directory.current()
    home.wait(home.rebuilds.start("pair", model="second", bits=128))
    after = directory.current()
    assert before is not None
    assert after is not None
    assert (after.artifact, after.generation) == ("second", 2)
    assert after.fingerprint == FakeHasher(128, seed="second").fingerprint
    assert directory.rollback() == before


def test_a_server_that_does_not_take_the_swap_does_not_undo_it(home: Home) -> None:
    home.build("untaken")
    home.swap_error = RuntimeError("no memory for a second model")
    job = home.wait(home.rebuilds.start("untaken", model="second"))
    assert (job.state, job.error) == (JobState.DONE, None)
    current = home.directory("untaken").current()
    assert current is not None
    assert (current.generation, current.artifact) == (2, "second")
    assert home.directory("untaken").generations() == [1, 2]
    assert home.leftovers() == []


def test_a_prune_that_fails_does_not_undo_the_swap(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    home.build("unpruned")
    with monkeypatch.context() as patch:
        patch.setattr(RebuildSteps, "prune", fail)
        assert home.wait(home.rebuilds.start("unpruned")).state is JobState.DONE
    home.directory("unpruned").rollback()
    home.worker.close()
    home.launch()
    assert home.directory("unpruned").generations() == [1, 2]
    assert home.leftovers() == []


def test_two_generations_are_kept(home: Home) -> None:
    home.build("pruned")
    for _ in range(2):
        home.wait(home.rebuilds.start("pruned"))
    assert home.directory("pruned").generations() == [2, 3]


def test_a_dry_run_does_everything_but_the_swap(home: Home) -> None:
    home.build("dry")
    swaps = len(home.swapped)
    job = home.wait(home.rebuilds.start("dry", model="second", dry_run=True))
    assert (job.state, job.done) == (JobState.DONE, DATABASE)
    assert home.directory("dry").generations() == [1]
    assert len(home.swapped) == swaps
    assert home.leftovers() == []


def test_progress_has_a_rate_and_the_time_left(home: Home) -> None:
    home.gate.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = home.rebuilds.start("progress", source="tiny", model="first")
    assert job.state in (JobState.QUEUED, JobState.RUNNING)
    job = home.wait(job, lambda job: job.done > SHARD_ITEMS)
    assert (job.state, job.total) == (JobState.RUNNING, DATABASE)
    assert job.rate is not None
    assert job.eta_s is not None
    assert job.rate * job.eta_s == pytest.approx(DATABASE - job.done, rel=0.1)


def test_an_index_has_one_rebuild_at_a_time(home: Home) -> None:
    home.gate.allow(0)
    running = home.rebuilds.start("one", source="tiny", model="first")
    with pytest.raises(RebuildRunning, match="'one' already has a rebuild"):
        home.rebuilds.start("one", source="tiny", model="first")
    home.wait(running, lambda job: job.state is JobState.RUNNING)
    other = home.rebuilds.start("other", source="tiny", model="first")
    assert other.state is JobState.QUEUED
    home.gate.open()
    assert home.wait(running).state is home.wait(other).state is JobState.DONE


def test_an_idempotency_key_names_one_job(home: Home) -> None:
    def start(index: str) -> Job:
        return home.rebuilds.start(index, source="tiny", model="first", idempotency_key="k")

    home.gate.allow(0)
    job = start("key")
    assert start("key").id == job.id
    home.gate.open()
    home.wait(job)
    assert start("key") == home.rebuilds.get(job.id)
    assert home.wait(start("key-2")).id != job.id


def test_a_cancelled_rebuild_leaves_nothing(home: Home) -> None:
    home.build("cancelled")
    home.gate.allow(SHARD_ITEMS)
    job = home.rebuilds.start("cancelled", model="second")
    home.wait(job, lambda job: job.done >= SHARD_ITEMS)
    assert home.rebuilds.cancel(job.id).state is JobState.CANCELLED
    home.gate.open()
    assert home.wait(home.rebuilds.start("cancelled")).state is JobState.DONE
    assert home.rebuilds.get(job.id).state is JobState.CANCELLED
    assert len(home.directory("cancelled").generations()) == 2
    assert home.leftovers() == []


def test_it_is_too_late_to_cancel_what_has_swapped(home: Home) -> None:
    home.build("late")
    swaps = len(home.swapped)
    home.serving.clear()
    job = home.rebuilds.start("late", model="second")
    home.wait(job, lambda _: len(home.swapped) > swaps)  # and the engine has not noted it yet
    assert home.rebuilds.cancel(job.id).state is JobState.RUNNING
    home.serving.set()
    assert home.wait(job).state is JobState.DONE
    assert home.directory("late").generations() == [1, 2]


def test_a_queued_rebuild_can_be_cancelled(home: Home) -> None:
    home.gate.allow(0)
    home.rebuilds.start("busy", source="tiny", model="first")
    queued = home.rebuilds.start("waiting", source="tiny", model="first")
    assert home.rebuilds.cancel(queued.id).state is JobState.CANCELLED
    assert home.directory("waiting").current() is None


def test_a_finished_job_stays_finished(home: Home) -> None:
    job = home.build("finished")
    assert home.rebuilds.cancel(job.id) == job


def test_bad_items_are_left_out_and_listed(home: Home) -> None:
    job = home.wait(home.rebuilds.start("few", source="few-bad", model="first"))
    assert job.state is JobState.DONE
    assert [one.id for one in job.skipped] == ["item-0003", "item-0007"]
    assert "expected a whole image" in job.skipped[0].reason
    assert home.directory("few").manifest(1).items == 78


def test_too_many_bad_items_keep_the_old_generation(home: Home) -> None:
    home.build("many")
    job = home.wait(home.rebuilds.start("many", source="many-bad"))
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert "at most 10% of 80 items to be bad, found 40" in job.error
    assert len(job.skipped) == 40
    current = home.directory("many").current()
    assert current is not None
    assert current.generation == 1
    assert home.directory("many").generations() == [1]
    assert home.leftovers() == []


def test_how_many_bad_items_are_too_many_is_a_setting(home: Home) -> None:
    home.worker.close()
    home.launch(max_bad_share=0.01)
    job = home.wait(home.rebuilds.start("strict", source="few-bad", model="first"))
    home.worker.close()
    home.launch()
    assert (job.state, home.directory("strict").generations()) == (JobState.FAILED, [])
    assert job.error is not None
    assert "at most 1% of 80 items to be bad, found 2" in job.error


def test_unknown_names_are_refused_with_the_known_ones(home: Home) -> None:
    with pytest.raises(SourceNotFound, match=r"known: few-bad, many-bad, .*tiny"):
        home.rebuilds.start("x", source="../tiny", model="first")
    with pytest.raises(ModelNotFound, match="known: first, second"):
        home.rebuilds.start("x", source="tiny", model="../artifacts/first")
    with pytest.raises(IndexNotFound, match="name a source and a model"):
        home.rebuilds.start("x", model="first")
    with pytest.raises(JobNotFound, match="no job 'x'"):
        home.rebuilds.get("x")
    with pytest.raises(JobNotFound):
        home.rebuilds.cancel("x")


def test_jobs_are_listed_newest_first(home: Home) -> None:
    first, second = home.build("listed-1"), home.build("listed-2")
    assert home.rebuilds.list()[:2] == [second, first]


def test_a_worker_is_alone_with_its_name(home: Home) -> None:
    with pytest.raises(WorkerTaken, match=f"is called '{home.worker.name}'"):
        home.make_worker(worker_id=home.worker.name).launch()


def test_the_engine_writes_no_pickle_and_nothing_to_the_console(home: Home) -> None:
    home.build("quiet")
    found = execute(home.settings, "SELECT DISTINCT serialization FROM {dbos}workflow_status")
    found += execute(
        home.settings, "SELECT DISTINCT serialization FROM {dbos}operation_outputs WHERE output IS NOT NULL"
    )
    assert {row[0] for row in found} == {"portable_json"}
    assert not any(isinstance(handler, logging.StreamHandler) for handler in logging.getLogger("dbos").handlers)


def test_closing_keeps_what_is_done_and_the_next_launch_goes_on(home: Home) -> None:
    home.gate.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = home.rebuilds.start("resumed", source="tiny", model="first")
    home.wait(job, lambda job: job.done > SHARD_ITEMS)
    closing = threading.Thread(target=home.worker.close)
    closing.start()
    time.sleep(0.05)  # it waits for the batches that wait at the gate
    home.gate.open()
    closing.join()
    assert home.directory("resumed").current() is None
    home.gate.open()
    home.launch()
    assert home.wait(home.rebuilds.get(job.id)).state is JobState.DONE
    assert home.gate.encoded <= DATABASE - SHARD_ITEMS + SAMPLE_ITEMS
    assert home.directory("resumed").manifest(1).items == DATABASE


def test_a_job_of_a_version_that_no_worker_has_fails_with_the_reason(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.build("upgraded")
    home.worker.close()
    with monkeypatch.context() as patch:
        patch.setattr(app.rebuild_queue, "WORKFLOW_VERSION", "rebuild-1")
        job = home.rebuilds.start("upgraded")
    home.launch(worker_timeout_s=0.2)
    job = home.wait(job)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert "expected a worker of workflow version rebuild-1, found rebuild-2 alone" in job.error
    assert home.wait(home.rebuilds.start("upgraded")).state is JobState.DONE


def test_a_job_of_a_worker_that_nobody_knows_is_taken_over(home: Home) -> None:
    home.gate.allow(SHARD_ITEMS + BATCH_ITEMS)
    job = home.rebuilds.start("adopted", source="tiny", model="first")
    home.wait(job, lambda job: job.done > SHARD_ITEMS)
    closing = threading.Thread(target=home.worker.close)
    closing.start()
    time.sleep(0.05)
    home.gate.open()
    closing.join()
    update = "UPDATE {dbos}workflow_status SET executor_id = 'local' WHERE workflow_uuid = :job"  # as version 0.1 did
    execute(home.settings, update, job=job.id)
    home.launch()
    assert home.wait(home.rebuilds.get(job.id)).state is JobState.DONE


def test_a_job_of_another_version_is_listed(home: Home) -> None:
    job = home.build("foreign")
    inputs = "FROM {dbos}workflow_input WHERE workflow_uuid = :job"
    ((text,),) = execute(home.settings, f"SELECT inputs {inputs}", job=job.id)
    raw = json.loads(text)
    request = raw["positionalArgs"][1]
    raw["positionalArgs"][1] = {name: request[name] for name in ("index", "source")} | {"colour": "red"}
    update = "UPDATE {dbos}workflow_input SET inputs = :text WHERE workflow_uuid = :job"
    execute(home.settings, update, job=job.id, text=json.dumps(raw))
    assert home.rebuilds.get(job.id) == job


def test_a_launch_cleans_up_behind_jobs_that_are_over(home: Home) -> None:
    job = home.build("swept")
    home.worker.close()
    (home.settings.jobs_dir / job.id).mkdir()
    home.launch()
    assert home.leftovers() == []
    assert home.directory("swept").generations() == [1]
