"""What `crossbit worker` does: one process that runs rebuilds, in the foreground."""

import os
import signal
import threading

import typer

from app.demo import queue_demo
from app.logs import configure_logs
from app.rebuild import RebuildWorker
from app.rebuild_queue import RebuildQueue
from app.rebuild_steps import LoadHasher
from app.settings import Settings


def work(settings: Settings, load_hasher: LoadHasher) -> None:
    """Run rebuilds until Ctrl-C or SIGTERM; what is unfinished then goes on with the next start, or elsewhere.

    Raises:
        JobsUnreachable, WorkerTaken
    """
    configure_logs(settings)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    os.nice(settings.worker_nice)
    queue = RebuildQueue(settings)
    queue.open()
    try:
        worker = RebuildWorker(settings, queue, load_hasher=load_hasher)
        worker.launch()
        queue_demo(settings, queue)
        typer.echo(f"working on rebuilds as {worker.name}", err=True)
        stopping.wait()
        worker.close()
    finally:
        queue.close()
