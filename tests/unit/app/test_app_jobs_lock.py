"""Names of workers, and who may work on an index."""

import threading
from contextlib import closing
from pathlib import Path
from socket import gethostname

import pytest

from app.jobs import WorkerTaken
from app.jobs_lock import deciding, rebuilding, running_workers, take_worker_id, try_rebuilding


def test_the_first_free_name_is_taken_and_taken_again(tmp_path: Path) -> None:
    first, lock = take_worker_id(tmp_path)
    second, other = take_worker_id(tmp_path)
    assert (first, second) == (f"{gethostname()}-1", f"{gethostname()}-2")
    assert running_workers(tmp_path) == [first, second]
    lock.close()
    assert running_workers(tmp_path) == [second]
    again, lock = take_worker_id(tmp_path)
    assert again == first
    lock.close()
    other.close()


def test_a_wanted_name_is_had_once(tmp_path: Path) -> None:
    name, lock = take_worker_id(tmp_path, "night-shift")
    assert name == "night-shift"
    with closing(lock), pytest.raises(WorkerTaken, match="set another CROSSBIT_WORKER_ID"):
        take_worker_id(tmp_path, "night-shift")


def test_nobody_works_where_nobody_ever_did(tmp_path: Path) -> None:
    assert running_workers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_an_index_is_rebuilt_by_one_and_others_wait(tmp_path: Path) -> None:
    asked = threading.Event()
    order = []

    def wait() -> None:
        with rebuilding(tmp_path, "demo", asked.set):
            order.append("second")

    waiting = threading.Thread(target=wait)
    with rebuilding(tmp_path, "demo", lambda: None):
        assert try_rebuilding(tmp_path, "demo") is None
        waiting.start()
        assert asked.wait(10)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    lock = try_rebuilding(tmp_path, "demo")
    assert lock is not None
    lock.close()


def test_who_waits_can_be_called_away(tmp_path: Path) -> None:
    def called_away() -> None:
        raise KeyboardInterrupt

    with (
        rebuilding(tmp_path, "demo", lambda: None),
        pytest.raises(KeyboardInterrupt),
        rebuilding(tmp_path, "demo", called_away),
    ):
        pass


def test_indexes_and_decisions_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with rebuilding(tmp_path, "demo", lambda: None), rebuilding(tmp_path, "other", lambda: None):
        third = try_rebuilding(tmp_path, "third")
        assert third is not None
        with closing(third), deciding(tmp_path, "demo"):
            pass
