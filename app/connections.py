"""One HTTP/1.1 connection of the service: uvicorn's on h11, with a bound on what trickles in while nothing is answered.

uvicorn bounds how long a connection may be silent between two requests, and h11 how large a head may grow; neither
bounds how long a head may take. The protocol is named, and not chosen by what else happens to be installed: the other
one that uvicorn knows has no bound on the size of a head.
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.logs import Log

log = Log(__name__)

TOO_SLOW = b"expected the whole head of the request in time, found a part of it; send it at once"


def connections(head_s: float) -> type[H11Protocol]:
    """Connections on which the head of a request has to be whole within ``head_s`` seconds.

    They count from the connection's start, and on a kept connection from the first byte after an answer, whether that
    byte is of the next head or of a body that was answered before it was whole. Beyond it the connection is closed,
    after a 408 where a part of a head has come.
    """

    class Connection(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self.stop_watching()
            super().connection_lost(exc)

        def watch(self) -> None:
            if self.cycle is not None and not self.cycle.response_complete:
                self.stop_watching()
            elif self.deadline is None:
                self.deadline = self.loop.call_later(head_s, self.give_up)

        def stop_watching(self) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
                self.deadline = None

        def give_up(self) -> None:
            if self.transport.is_closing():
                return
            if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
                log.info("head_too_slow", head_s=head_s)
                headers = [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")]
                answer = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
                for event in (answer, h11.Data(data=TOO_SLOW), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Connection
