"""Connections that no client of good faith opens: whatever comes, the next caller is served and nothing is an error."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse

import pytest
from api_home import Home, open_recorded_jobs, wait_until
from fastapi import FastAPI
from live_service import listening
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.settings import Settings

TEXT = "/v1/search/text"
IMAGE = "/v1/search/image"
FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
WAIT_S = 10
Address = tuple[str, int]
Serve = Callable[..., tuple[FastAPI, Address]]


@pytest.fixture
def live(home: Home) -> Iterator[Serve]:
    """Starts a service on a socket; keyword arguments are limits."""
    with ExitStack() as stack:

        def start(**limits: float) -> tuple[FastAPI, Address]:
            settings = Settings(home=home.path, log_level="error", limits=limits, decode_processes=0)
            app = create_app(settings, load_hasher=home.load, open_jobs=open_recorded_jobs)
            return app, stack.enter_context(listening(app))

        yield start


def request(path: str, body: bytes, *, length: int | None = None, content_type: str = "application/json") -> bytes:
    """A POST whose header promises ``length`` bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


@contextmanager
def connected(address: Address) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=WAIT_S) as connection:
        yield connection


def read_to_end(connection: socket.socket) -> bytes:
    """What comes until the other side closes; a reset ends it too."""
    found = b""
    try:
        while some := connection.recv(65536):
            found += some
    except ConnectionResetError:
        pass
    return found


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def assert_serves(address: Address) -> None:
    with connected(address) as connection:
        connection.sendall(request(TEXT, b'{"query": "a"}'))
        assert status_of(connection.recv(65536)) == 200


def statuses(app: FastAPI) -> set[str]:
    text = app.state.runtime.metrics.render().decode()
    found = [family for family in text_string_to_metric_families(text) if family.name == "http_requests"]
    return {sample.labels["status"] for family in found for sample in family.samples}


@pytest.mark.parametrize(
    ("path", "content_type", "part"), [(TEXT, "application/json", b'{"que'), (IMAGE, FORM, PART + b"\x89PNG")]
)
def test_an_upload_that_stalls_is_given_up(live: Serve, path: str, content_type: str, part: bytes) -> None:
    _, address = live(body_s=0.05)
    with connected(address) as connection:
        connection.sendall(request(path, part, length=1000, content_type=content_type))
        answer = read_to_end(connection)
    assert (status_of(answer), b"deadline_exceeded" in answer) == (504, True)
    assert_serves(address)


def test_uploads_that_stall_keep_nobody_else_waiting(live: Serve) -> None:
    app, address = live(queue=0)
    before = threading.active_count()
    with ExitStack() as stack:
        for path, content_type, part in ((TEXT, "application/json", b"{"), (IMAGE, FORM, PART)) * 30:
            connection = stack.enter_context(connected(address))
            connection.sendall(request(path, part, length=10**6, content_type=content_type))
        assert_serves(address)
        assert threading.active_count() < before + 20
    wait_until(lambda: "none" in statuses(app))


@pytest.mark.parametrize(
    ("path", "content_type", "part"), [(TEXT, "application/json", b'{"que'), (IMAGE, FORM, PART + b"\x89PNG")]
)
def test_hanging_up_in_a_body_is_no_error(live: Serve, path: str, content_type: str, part: bytes) -> None:
    app, address = live()
    with connected(address) as connection:
        connection.sendall(request(path, part, length=1000, content_type=content_type))
    wait_until(lambda: statuses(app) & {"none", "422"} != set())
    assert_serves(address)
    assert "500" not in statuses(app)


def test_a_half_closed_connection_ends(live: Serve) -> None:
    app, address = live()
    with connected(address) as connection:
        connection.sendall(request(TEXT, b'{"query": "a"}'))
        connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)
    assert_serves(address)
    assert "500" not in statuses(app)


HEAD = b"GET /livez HTTP/1.1\r\nHost: test\r\n"
UNKNOWN = b"POST /nothing HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n"


def read_answer(connection: socket.socket) -> int:
    """The status of an answer that is read whole, on a connection that stays open."""
    answer = HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


def trickle(connection: socket.socket) -> bytes:
    """Send a header byte after byte until the other side closes; what it said."""
    connection.settimeout(0.005)
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            connection.sendall(b"a")
            if not connection.recv(65536, socket.MSG_PEEK):
                return b""
        except TimeoutError:
            continue
        except OSError:  # reset, as it had bytes left to read
            return b""
        connection.settimeout(WAIT_S)
        return read_to_end(connection)
    pytest.fail("it listens on and on")


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"], ids=["first request", "kept connection"])
def test_a_head_that_trickles_is_given_up(live: Serve, before: bytes) -> None:
    _, address = live(head_s=0.2)
    with connected(address) as connection:
        if before:
            connection.sendall(before)
            assert read_answer(connection) == 200
        connection.sendall(HEAD + b"X-Slow: ")
        answer = trickle(connection)
    assert (status_of(answer), b"connection: close" in answer.lower()) == (408, True)
    assert_serves(address)


def test_who_says_nothing_is_sent_away_in_silence(live: Serve) -> None:
    _, address = live(head_s=0.05)
    with connected(address) as connection:
        assert read_to_end(connection) == b""


def test_a_body_that_trickles_after_its_answer_is_given_up(live: Serve) -> None:
    _, address = live(head_s=0.2)
    with connected(address) as connection:
        connection.sendall(UNKNOWN)
        assert read_answer(connection) == 404
        assert trickle(connection) == b""


def test_an_answer_may_take_longer_than_a_head(live: Serve) -> None:
    _, address = live(head_s=0.05, body_s=0.3)
    with connected(address) as connection:
        connection.sendall(request(TEXT, b"{", length=1000))
        assert status_of(read_to_end(connection)) == 504


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"X-Flood: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 20_000 + b"\r\n",
        HEAD + b"X-Flood: " + b"a" * 10**6 + b"\r\n\r\n",
        b"GET /" + b"a" * 10**6 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
        HEAD + b"X-Nul: a\0b\r\n\r\n",
        HEAD + b"X-Folded: a\r\n b\rc\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 9" + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\n",
        b"POST /v1/search/text HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",
        b"\0" * 100_000,
    ],
    ids=range(12),
)
def test_what_is_no_request_is_refused_before_the_routes(live: Serve, sent: bytes) -> None:
    app, address = live()
    with connected(address) as connection:
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all was sent
        answer = read_to_end(connection)
    assert not answer or 400 <= status_of(answer) < 500
    assert_serves(address)
    assert "500" not in statuses(app)


def test_a_request_is_not_smuggled_in_the_body_of_another(live: Serve) -> None:
    _, address = live()
    inner = b"GET /v1/indexes HTTP/1.1\r\nHost: test\r\n\r\n"
    head = (
        f"POST {TEXT} HTTP/1.1\r\nHost: test\r\nContent-Length: {5 + len(inner)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with connected(address) as connection:
        connection.sendall(head.encode() + b"0\r\n\r\n" + inner)
        connection.shutdown(socket.SHUT_WR)
        assert b'"indexes"' not in read_to_end(connection)
    assert_serves(address)


@pytest.mark.slow
def test_ten_thousand_tiny_requests(live: Serve) -> None:
    app, address = live()
    before = threading.active_count()
    one = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
    with connected(address) as connection:
        answered = 0
        for _ in range(100):
            connection.sendall(one * 100)
            wanted, found = answered + 100, b""
            while answered < wanted:
                found += connection.recv(65536)
                answered += found.count(b'{"status":"alive"}')
                found = found.rpartition(b'{"status":"alive"}')[2]
    assert answered == 10_000
    assert threading.active_count() <= before
    assert_serves(address)
    assert statuses(app) == {"200"}
