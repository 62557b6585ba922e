import socket
from contextlib import closing

import pytest
import typer

from app.serving import bind, is_loopback


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - what must not pass
        ("::", False),
        ("192.0.2.1", False),
        ("example.org", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_socket_names_its_protocol_so_that_asyncio_sends_at_once() -> None:
    with closing(bind("127.0.0.1", 0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_taken_port_is_refused() -> None:
    with closing(bind("127.0.0.1", 0)) as listener, pytest.raises(typer.BadParameter, match="choose another"):
        bind("127.0.0.1", listener.getsockname()[1])
