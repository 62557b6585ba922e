"""What `crossbit serve` does: one process of the service, in the foreground, which ends without losing a request."""

import asyncio
import ipaddress
import logging
import select
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import typer
import uvicorn

from app import ending
from app.connections import connections
from app.ending import end_within
from app.logs import EventHandler, Log
from app.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

log = Log(__name__)

LAST_S = 0.2  # for connections made before the port was closed, whose request is on its way


class DrainingServer(uvicorn.Server):
    """At SIGTERM it first gives notice (not ready, but answering), then closes the port and waits for what runs.

    Ctrl-C, and another SIGTERM, end the notice; another Ctrl-C ends the process at once.
    """

    def __init__(self, config: uvicorn.Config, notice_s: float) -> None:
        super().__init__(config)
        self.on_drain: Callable[[], None] = lambda: None
        self.on_shutdown: Callable[[], None] = lambda: None
        self._notice_s = notice_s
        self._has_notice = False
        self._ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The signal handler: it sets flags and nothing else, as it may interrupt whoever holds a lock."""
        self.on_drain()
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif self.started and not self._has_notice:
            self._has_notice = True
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; true ends the service."""
        if self._has_notice and self._ends_at is None:
            self._ends_at = time.monotonic() + self._notice_s
            log.info("service_draining", notice_s=self._notice_s)
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take who waits at the port, close it, let who is inside speak, end streams; then wait for what runs.

        What hangs is not waited for beyond ``END_S``: the process ends then, with another status than 0.
        """
        end_within(LAST_S + (self.config.timeout_graceful_shutdown or 0) + ending.END_S)
        deadline = time.monotonic() + LAST_S
        while sockets and select.select(sockets, [], [], 0)[0] and time.monotonic() < deadline:
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        for listener in sockets or ():
            loop.remove_reader(listener)  # accept nobody more ...
        await asyncio.sleep(0)  # ... and take in who was just accepted: a closed server would drop them unanswered
        for server in self.servers:
            server.close()
        self.on_shutdown()
        if not self.force_exit:
            await asyncio.sleep(LAST_S)
        await super().shutdown(sockets)


def configured(app: "FastAPI | Callable[[], FastAPI]", settings: Settings, *, factory: bool = False) -> uvicorn.Config:
    """How uvicorn runs the application: HTTP/1.1 alone, its heads bounded, its own lines kept off the console."""
    return uvicorn.Config(
        app,
        factory=factory,
        http=connections(settings.limits.head_s),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=settings.drain_s,
    )


def serve(create_app: Callable[[], "FastAPI"], host: str, port: int, *, has_keys: bool, settings: Settings) -> None:
    """Serve until Ctrl-C or SIGTERM, and then at most the settings' ``drain_notice_s`` and ``drain_s`` more.

    The port is taken before any model is loaded.

    Raises:
        typer.BadParameter: the address is open to the network while there are no keys, or cannot be bound.
    """
    if not has_keys and not settings.open_without_keys and not is_loopback(host):
        raise typer.BadParameter(
            f"expected a loopback address such as 127.0.0.1, found {host}: no API keys are set, so whoever reaches the "
            "port could do everything; make one with `crossbit key --role admin` and set it, or serve on loopback",
            param_hint="--host",
        )
    with bind(host, port) as listener:

        def make_app() -> "FastAPI":
            app = create_app()
            server.on_drain = app.state.runtime.drain
            server.on_shutdown = lambda: app.state.listeners.close()
            return app

        server = DrainingServer(configured(make_app, settings, factory=True), settings.drain_notice_s)
        logging.getLogger("uvicorn").addHandler(EventHandler("server_logged"))
        # a second Ctrl-C ends the process at once, and uvicorn reports the lifespan that this cuts short
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.force_exit)
        address, taken = listener.getsockname()[:2]
        typer.echo(f"serving on http://{f'[{address}]' if ':' in address else address}:{taken}", err=True)
        if not has_keys and not settings.open_without_keys:
            typer.echo("no API keys are set, so only this machine may reach it; `crossbit key` makes one", err=True)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # uvicorn raises the signal again once it has drained
            return
    if not server.started:
        raise typer.Exit(1)


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
