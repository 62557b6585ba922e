"""Signs of life, on a clock that the test moves."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.heartbeats import Heartbeats

Open = Callable[[], Heartbeats]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect(tmp_path: Path, clock: Clock) -> Iterator[Open]:
    with ExitStack() as stack:

        def start() -> Heartbeats:
            heartbeats = Heartbeats(f"sqlite:///{tmp_path / 'jobs.sqlite'}", 10, clock=clock)
            stack.callback(heartbeats.close)
            return heartbeats

        yield start


def test_who_counts_on_is_alive(connect: Open, clock: Clock) -> None:
    ours, theirs = connect(), connect()
    for now in range(0, 100, 9):
        clock.now = now
        theirs.beat("them", "2")
        assert ours.alive() == {"them": "2"}


def test_who_stops_counting_is_dead_after_the_patience(connect: Open, clock: Clock) -> None:
    ours = connect()
    ours.beat("them", "1")
    ours.alive()
    clock.now = 10
    assert ours.alive() == {"them": "1"}
    clock.now = 10.1
    assert ours.alive() == {}


def test_who_was_only_asleep_comes_back(connect: Open, clock: Clock) -> None:
    ours = connect()
    ours.beat("them", "1")
    ours.alive()
    clock.now = 11
    assert ours.alive() == {}
    ours.beat("them", "1")
    assert ours.alive() == {"them": "1"}


def test_a_newcomer_is_as_patient_as_the_others(connect: Open, clock: Clock) -> None:
    connect().beat("them", "1")
    clock.now = 1000
    newcomer = connect()
    assert newcomer.alive() == {"them": "1"}
    clock.now = 1011
    assert newcomer.alive() == {}


def test_the_age_of_a_beat_grows_until_the_next(connect: Open, clock: Clock) -> None:
    ours = connect()
    clock.now = 7
    assert ours.beat_age_s() == 7
    ours.beat("us", "1")
    assert ours.beat_age_s() == 0


def test_who_starts_again_with_a_new_version_says_so(connect: Open) -> None:
    ours = connect()
    ours.beat("us", "1")
    ours.beat("us", "2")
    assert ours.alive() == {"us": "2"}
