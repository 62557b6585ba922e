"""`crossbit serve` as a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from tiny_home import make_home

from app.settings import Settings

MAIN = [sys.executable, "-W", "error", "-c", "from app.cli import main; main()"]
WAIT_S = 30


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"CROSSBIT_HOME": str(make_home(tmp_path / "home", 5))}


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*MAIN, "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def address(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    found = re.fullmatch(r"serving on (http://127\.0\.0\.1:\d+)\n", server.stderr.readline())
    assert found
    return found[1]


def test_it_answers_and_ends_cleanly_at_ctrl_c(server: subprocess.Popen[str]) -> None:
    url = address(server)
    with urlopen(f"{url}/v1/jobs", timeout=WAIT_S) as answer:  # noqa: S310 - our own server
        assert json.load(answer) == {"jobs": []}
    server.send_signal(signal.SIGINT)
    _, log = server.communicate(timeout=WAIT_S)
    assert server.returncode == 0
    assert "Traceback" not in log


def test_a_second_ctrl_c_ends_it_at_once(server: subprocess.Popen[str]) -> None:
    with urlopen(f"{address(server)}/v1/jobs", timeout=WAIT_S):  # noqa: S310 - our own server
        server.send_signal(signal.SIGINT)
        server.send_signal(signal.SIGINT)
    _, log = server.communicate(timeout=WAIT_S)
    assert server.returncode == 0
    assert "Traceback" not in log


def test_who_follows_a_job_does_not_keep_it_from_ending(environment: dict[str, str]) -> None:
    environment = environment | {"CROSSBIT_WORKER": "none"}  # so that the job waits for ever
    with subprocess.Popen(
        [*MAIN, "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        url = address(server)
        body = json.dumps({"source": "tiny", "model": "first"}).encode()
        start = Request(f"{url}/v1/indexes/tiny/rebuild", body, {"content-type": "application/json"})  # noqa: S310 - our own server
        with urlopen(start, timeout=WAIT_S) as answer:  # noqa: S310
            events = f"{url}{answer.headers['location']}/events"
        with urlopen(events, timeout=WAIT_S) as stream:  # noqa: S310
            assert stream.readline() == b"event: progress\n"
            asked = time.monotonic()
            server.send_signal(signal.SIGINT)
            assert b"event: end" not in stream.read()
        _, log = server.communicate(timeout=WAIT_S)
    assert server.returncode == 0
    assert time.monotonic() - asked < Settings().drain_s
    assert "Traceback" not in log


def test_a_worker_says_its_name_and_ends_cleanly(server: subprocess.Popen[str], environment: dict[str, str]) -> None:
    with urlopen(f"{address(server)}/v1/jobs", timeout=WAIT_S):  # noqa: S310 - our own server
        pass
    with subprocess.Popen([*MAIN, "worker"], env=environment, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        assert worker.stderr.readline() == f"working on rebuilds as {gethostname()}-2\n"  # the server is the first
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=WAIT_S)
    assert (worker.returncode, log) == (0, "")


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_an_address_of_jobs_that_is_none_is_said_without_its_password(
    environment: dict[str, str], command: str
) -> None:
    environment = environment | {"CROSSBIT_JOBS_URL": "mysql://me:secret@here/jobs"}
    done = subprocess.run([*MAIN, command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "CROSSBIT_JOBS_URL: expected an address that starts with postgresql://" in " ".join(done.stderr.split())
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_of_jobs_that_does_not_answer_is_named(environment: dict[str, str]) -> None:
    environment = environment | {"CROSSBIT_JOBS_URL": "postgresql://me:secret@127.0.0.1:1/jobs"}
    done = subprocess.run([*MAIN, "worker"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot reach the database of jobs at postgresql://me:***@127.0.0.1:1/jobs" in " ".join(done.stderr.split())
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_named(environment: dict[str, str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [*MAIN, "serve", "--port", str(port)], env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_without_keys_it_binds_to_loopback_only(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*MAIN, "serve", "--host", "192.0.2.1"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no API keys are set" in " ".join(done.stderr.replace("│", " ").split())


def test_with_keys_it_may_bind_elsewhere_and_asks_for_one(environment: dict[str, str], tmp_path: Path) -> None:
    made = json.loads(subprocess.run([*MAIN, "key", "--json"], capture_output=True, text=True, check=True).stdout)
    keys = tmp_path / "keys"
    keys.write_text(f"{made['role']} {made['digest']}\n")
    guarded = environment | {"CROSSBIT_KEYS_FILE": str(keys)}
    # an address that no machine here has: it gets as far as the system's own refusal, and no port is opened
    done = subprocess.run(
        [*MAIN, "serve", "--host", "192.0.2.1"], env=guarded, capture_output=True, text=True, check=False
    )
    assert "cannot listen on 192.0.2.1" in " ".join(done.stderr.replace("│", " ").split())
    with subprocess.Popen([*MAIN, "serve", "--port", "0"], env=guarded, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = f"{address(server)}/v1/jobs"
            with pytest.raises(HTTPError, match="401"):
                urlopen(url, timeout=WAIT_S)  # noqa: S310 - our own server
            with urlopen(Request(url, headers={"Authorization": f"Bearer {made['key']}"}), timeout=WAIT_S) as answer:  # noqa: S310 - our own server
                assert answer.status == 200
            with pytest.raises(HTTPError, match="4"):
                urlopen(Request(url, headers={"X-Huge": "x" * 200_000}), timeout=WAIT_S)  # noqa: S310 - our own server
        finally:
            server.send_signal(signal.SIGINT)
            _, log = server.communicate(timeout=WAIT_S)
    assert made["key"] not in log
    assert "no API keys" not in log
