"""The address of the database of jobs."""

from pathlib import Path

import pytest

from app.job_store import database_url
from app.jobs import JobsUnreachable
from app.settings import Settings

URL = "postgresql://crossbit:a-password@db/jobs"


def test_without_settings_it_is_a_file_of_the_home(tmp_path: Path) -> None:
    assert database_url(Settings(home=tmp_path)) == f"sqlite:///{tmp_path}/jobs/jobs.sqlite"
    assert (tmp_path / "jobs").is_dir()


def test_a_file_goes_before_the_variable(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{URL}\n")
    assert database_url(Settings(home=tmp_path, jobs_url=URL)) == URL
    assert database_url(Settings(home=tmp_path, jobs_url="postgresql://other", jobs_url_file=secret)) == URL
    assert "a-password" not in repr(Settings(home=tmp_path, jobs_url=URL))


def test_what_is_no_address_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(
        JobsUnreachable, match=r"CROSSBIT_JOBS_URL: expected an address that starts with postgresql://"
    ) as error:
        database_url(Settings(home=tmp_path, jobs_url="mysql://a-password"))
    assert "a-password" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobsUnreachable, match=r"cannot read .*nothing: No such file"):
        database_url(Settings(home=tmp_path, jobs_url_file=tmp_path / "nothing"))
