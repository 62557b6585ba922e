"""What a worker keeps open for the jobs that it works on."""

from pathlib import Path

import pytest
from tiny_home import load_fake

from app.job_spans import JobSpans
from app.open_rebuilds import OpenRebuilds
from app.rebuild_steps import Request
from app.settings import Settings

REQUEST = Request("demo", "tiny", "first", 64, "first", reuse=True, dry_run=False)


@pytest.fixture
def rebuilds(tmp_path: Path) -> OpenRebuilds:
    return OpenRebuilds(tmp_path / "jobs", Settings(home=tmp_path), load_fake, JobSpans())


def test_a_job_has_one_set_of_steps_until_it_is_over(rebuilds: OpenRebuilds) -> None:
    first, other = rebuilds.steps("a", REQUEST), rebuilds.steps("b", REQUEST)
    rebuilds.close_ended(lambda job_id: job_id == "a")
    assert rebuilds.steps("b", REQUEST) is other
    assert rebuilds.steps("a", REQUEST) is not first


def test_a_job_may_be_opened_while_the_database_is_asked_which_are_over(rebuilds: OpenRebuilds) -> None:
    first = rebuilds.steps("a", REQUEST)
    opened = []

    def is_over(job_id: str) -> bool:
        opened.append(rebuilds.steps(f"beside {job_id}", REQUEST))
        return True

    rebuilds.close_ended(is_over)
    assert rebuilds.steps("beside a", REQUEST) is opened[0]
    assert rebuilds.steps("a", REQUEST) is not first


def test_a_job_whose_shard_is_in_hand_stays_open(rebuilds: OpenRebuilds) -> None:
    first = rebuilds.steps("a", REQUEST)
    with rebuilds.in_hand("a"):
        rebuilds.close_ended(lambda _: True)
    assert rebuilds.steps("a", REQUEST) is first
