"""What `crossbit serve` does: one process of the service, in the foreground."""

import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer
import uvicorn

from app.logs import EventHandler

if TYPE_CHECKING:
    from fastapi import FastAPI

DRAIN_S = 10  # longest wait for running requests after Ctrl-C


def serve(create_app: Callable[[], "FastAPI"], host: str, port: int, *, has_keys: bool) -> None:
    """Serve until Ctrl-C or SIGTERM; the port is taken before any model is loaded.

    Raises:
        typer.BadParameter: the address is open to the network while there are no keys, or cannot be bound.
    """
    if not has_keys and not is_loopback(host):
        raise typer.BadParameter(
            f"expected a loopback address such as 127.0.0.1, found {host}: no API keys are set, so whoever reaches the "
            "port could do everything; make one with `crossbit key --role admin` and set it, or serve on loopback",
            param_hint="--host",
        )
    with bind(host, port) as listener:
        server = _Server(create_app)
        logging.getLogger("uvicorn").addHandler(EventHandler("server_logged"))
        # a second Ctrl-C ends the process at once, and uvicorn reports the lifespan that this cuts short
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.force_exit)
        address, taken = listener.getsockname()[:2]
        typer.echo(f"serving on http://{f'[{address}]' if ':' in address else address}:{taken}", err=True)
        if not has_keys:
            typer.echo("no API keys are set, so only this machine may reach it; `crossbit key` makes one", err=True)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises the signal again once it has drained
            return
    if not server.started:
        raise typer.Exit(1)


class _Server(uvicorn.Server):
    """Ends the streams of events before it waits for running requests."""

    def __init__(self, create_app: Callable[[], "FastAPI"]) -> None:
        self._create_app = create_app
        super().__init__(
            uvicorn.Config(
                self._create, factory=True, log_config=None, access_log=False, timeout_graceful_shutdown=DRAIN_S
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain and stop."""
        self._app.state.listeners.close()
        await super().shutdown(sockets)

    def _create(self) -> "FastAPI":
        self._app = self._create_app()
        return self._app


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        typer.BadParameter: the port is taken or may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns off Nagle's delay, 40 ms an answer on a kept connection, only where the protocol is named
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise typer.BadParameter(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port", param_hint="--port"
        ) from error
    return listener
