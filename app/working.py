"""What `crossbit worker` does: one process that runs rebuilds, in the foreground."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import typer
from prometheus_client import start_http_server

from app import ending
from app.demo import queue_demo
from app.ending import end_within
from app.job_spans import JobSpans
from app.logs import configure_logs
from app.metrics import Metrics
from app.rebuild import RebuildWorker
from app.rebuild_queue import RebuildQueue
from app.rebuild_steps import LoadHasher
from app.settings import Settings

LOOPBACK = "127.0.0.1"


def work(settings: Settings, load_hasher: LoadHasher) -> None:
    """Run rebuilds until Ctrl-C or SIGTERM; what is unfinished then goes on with the next start, or elsewhere.

    A batch that hangs is not waited for beyond ``END_S``: the process ends then, with another status than 0.

    Raises:
        JobsUnreachable, WorkerTaken, ExtraMissing
        typer.BadParameter: the port of the metrics cannot be bound.
    """
    configure_logs(settings)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    os.nice(settings.worker_nice)
    with ExitStack() as stack:
        metrics = Metrics()
        if settings.worker_metrics_port is not None:
            stack.enter_context(telling(metrics, settings.worker_metrics_port))
        spans = stack.enter_context(job_spans(settings))
        queue = RebuildQueue(settings)
        queue.open()
        stack.callback(queue.close)
        worker = RebuildWorker(settings, queue, load_hasher=load_hasher, metrics=metrics, spans=spans)
        worker.launch()
        queue_demo(settings, queue)
        typer.echo(f"working on rebuilds as {worker.name}", err=True)
        stopping.wait()
        end_within(ending.END_S)
        worker.close()


@contextmanager
def telling(metrics: Metrics, port: int) -> Iterator[None]:
    """Answer Prometheus on a port of this machine until the block ends.

    Raises:
        typer.BadParameter: the port is taken or may not be used.
    """
    try:
        server, thread = start_http_server(port, LOOPBACK, metrics.registry)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot listen on {LOOPBACK} port {port}: {error.strerror}; choose another for each worker",
            param_hint="CROSSBIT_WORKER_METRICS_PORT",
        ) from error
    typer.echo(f"metrics at http://{LOOPBACK}:{server.server_port}/metrics", err=True)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def job_spans(settings: Settings) -> Iterator[JobSpans]:
    """What traces rebuilds; what is not sent yet is sent when the block ends.

    Raises:
        ExtraMissing: traces are wanted, and the extra that sends them is not installed.
    """
    if settings.otlp_endpoint is None:
        yield JobSpans()
        return
    from app.tracing import open_tracing

    tracing = open_tracing(settings)
    try:
        yield JobSpans(tracing)
    finally:
        if tracing is not None:
            tracing.shutdown()
