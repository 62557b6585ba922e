"""An application on a real socket, for what a test client cannot do: raw bytes, hanging up, many connections."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import uvicorn
from api_home import wait_until
from fastapi import FastAPI

from app.serving import bind, configured


@contextmanager
def listening(app: FastAPI) -> Iterator[tuple[str, int]]:
    """Serve on a free port of the loopback interface until the block ends; gives the address once all is open."""
    with closing(bind("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(configured(app, app.state.runtime.settings))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started and app.state.runtime.ready)
            host, port = listener.getsockname()
            yield host, port
        finally:
            server.should_exit = True
            thread.join()
