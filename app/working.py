"""What `crossbit worker` does: one process that runs rebuilds, in the foreground."""

import os
import signal
import threading

import typer

from app import ending
from app.ending import end_within
from app.logs import configure_logs
from app.rebuild import CLOSE_S, RebuildWorker
from app.rebuild_queue import RebuildQueue
from app.rebuild_steps import LoadHasher
from app.settings import Settings


def work(settings: Settings, load_hasher: LoadHasher) -> None:
    """Run rebuilds until Ctrl-C or SIGTERM; what is unfinished then goes on with the next start, or elsewhere.

    A batch that hangs is not waited for beyond ``END_S``: the process ends then, with another status than 0.

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
        typer.echo(f"working on rebuilds as {worker.name}", err=True)
        stopping.wait()
        end_within(CLOSE_S + ending.END_S)
        worker.close()
    finally:
        queue.close()
