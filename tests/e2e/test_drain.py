"""SIGTERM to a served home: not ready at once, and every request that was accepted is answered."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from tiny_home import DATA, load_fake, make_home

from app.index_commands import build
from app.rebuild_steps import Request
from app.settings import Settings

SCRIPT = Path(__file__).parents[1] / "support" / "gated_service.py"
WAIT_S = 30
CALLERS = 4


@dataclass
class Service:
    """A process under test."""

    process: subprocess.Popen[str]
    port: int
    gate: Path

    def call(self, path: str, body: dict[str, object] | None = None) -> tuple[int, str | None, bytes]:
        """Status, ``Connection`` header and body of an answer, over a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            headers = {"Content-Type": "application/json"}
            data = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Connection"), answer.read()
        finally:
            connection.close()

    def search(self) -> int:
        return self.call("/v1/search/text", {"query": "a", "limit": 1})[0]

    def search_or_lose(self) -> None:
        with suppress(OSError, HTTPException):
            self.search()

    def is_ready(self) -> bool:
        return self.call("/readyz")[0] == 200

    def waiting(self) -> int:
        found = re.search(rb'encode_queue_depth\{modality="text"\} (\d+)', self.call("/metrics")[2])
        assert found
        return int(found[1])

    def accepts(self) -> bool:
        try:
            self.call("/livez")
        except ConnectionError:
            return False
        return True

    def end(self) -> str:
        """Wait for its end; gives its log."""
        _, log = self.process.communicate(timeout=WAIT_S)
        return log


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = make_home(tmp_path_factory.mktemp("drain") / "home", 10)
    build(Settings(home=home), Request("demo", DATA, "first", 64, "first", reuse=True, dry_run=False), load_fake)
    return home


@contextmanager
def served(home: Path, gate: Path, **settings: str) -> Iterator[Service]:
    command = [sys.executable, "-W", "error", str(SCRIPT), str(home), str(gate)]
    with subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"serving on http://127\.0\.0\.1:(\d+)", process.stderr.readline())
            assert found
            service = Service(process, int(found[1]), gate)
            wait_until(service.is_ready)
            yield service
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_callers_that_follow_readiness_lose_no_request(home: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    away, outcomes = threading.Event(), []

    def ask(service: Service) -> None:
        while not away.is_set():
            try:
                outcomes.append(service.search())
            except OSError as error:
                outcomes.append(error)

    with served(home, gate, CROSSBIT_DRAIN_NOTICE_S="600") as service:
        callers = [threading.Thread(target=ask, args=(service,)) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        wait_until(lambda: len(outcomes) >= 2 * CALLERS)
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not service.is_ready())
        status, connection, _ = service.call("/v1/search/text", {"query": "late", "limit": 1})
        away.set()
        for caller in callers:
            caller.join(WAIT_S)
        service.process.send_signal(signal.SIGTERM)  # skips the rest of the notice
        log = service.end()
    assert (status, connection) == (200, "close")
    assert set(outcomes) == {200}
    assert service.process.returncode == 0
    assert '"event": "service_draining"' in log
    assert "Traceback" not in log


def test_an_encoder_that_hangs_does_not_keep_the_service_from_ending(home: Path, tmp_path: Path) -> None:
    settings = {"CROSSBIT_DRAIN_NOTICE_S": "0", "CROSSBIT_DRAIN_S": "1", "CROSSBIT_ENCODE_BATCH": "1", "END_S": "0.2"}
    with served(home, tmp_path / "never", **settings) as service:
        callers = [threading.Thread(target=service.search_or_lose) for _ in range(2)]
        for caller in callers:
            caller.start()
        wait_until(lambda: service.waiting() == 1)  # so the other one is being encoded
        service.process.send_signal(signal.SIGTERM)
        log = service.end()
        for caller in callers:
            caller.join(WAIT_S)
    assert service.process.returncode == 1
    assert '"event": "process_stuck"' in log
    assert "encoding_0" in log


def test_requests_that_run_are_answered_after_the_port_is_closed(home: Path, tmp_path: Path) -> None:
    outcomes: list[int] = []
    with served(home, tmp_path / "gate", CROSSBIT_DRAIN_NOTICE_S="0", CROSSBIT_ENCODE_BATCH="1") as service:
        callers = [threading.Thread(target=lambda: outcomes.append(service.search())) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        wait_until(lambda: service.waiting() == CALLERS - 1)
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not service.accepts())
        assert outcomes == []
        service.gate.touch()
        for caller in callers:
            caller.join(WAIT_S)
        log = service.end()
    assert outcomes == [200] * CALLERS
    assert service.process.returncode == 0
    assert "Traceback" not in log
