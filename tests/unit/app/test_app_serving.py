import socket
from contextlib import closing

import pytest
import typer
from fastapi import FastAPI

import app.serving
from app.serving import bind, is_loopback, serve
from app.settings import Settings


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


@pytest.mark.parametrize(("open_without_keys", "answer"), [(False, "no API keys are set"), (True, "cannot listen")])
def test_without_keys_it_is_open_to_the_network_where_that_was_asked_for(
    open_without_keys: bool, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(host: str, port: int) -> socket.socket:
        raise typer.BadParameter("cannot listen")

    monkeypatch.setattr(app.serving, "bind", refuse)
    with pytest.raises(typer.BadParameter, match=answer):
        serve(
            FastAPI,
            "0.0.0.0",  # noqa: S104 - nothing is bound
            8000,
            has_keys=False,
            settings=Settings(open_without_keys=open_without_keys),
        )
