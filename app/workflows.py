"""The workflow engine by the few names that rebuilds need: the only module that imports dbos.

A workflow is a function of JSON values whose finished steps are recorded in the database of jobs. Queues hand workflows
to workers; one whose worker died goes back to its queue, and whoever takes it goes on behind its last recorded step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos import DBOSClient as Client
from dbos import WorkflowStatus as Status
from dbos import error as errors

APPLICATION = "crossbit"

AlreadyQueued = errors.DBOSQueueDeduplicatedError
NotOurs = errors.DBOSWorkflowConflictIDError  # another worker has the workflow by now
STOPPED = (errors.DBOSWorkflowCancelledError, NotOurs)  # no subclasses of Exception

T = TypeVar("T")

__all__ = ["STOPPED", "AlreadyQueued", "Client", "NotOurs", "Status"]


@dataclass(frozen=True, slots=True)
class Kind:
    """Workflows of one name, taken from a queue of the same name."""

    name: str
    run: Callable[..., Any]  # Any: arguments and result are JSON
    at_once: int  # that one worker takes
    attempts: int  # after which one that takes its process down with it is given up


def open_client(url: str) -> Client:
    """What starts, watches and cancels workflows; the engine's tables are made where they are missing."""
    DBOS.migrate(url)
    return Client(
        system_database_url=url,
        serializer=DBOSPortableJSONSerializer(),  # the default is pickle
        application_name=APPLICATION,
        retry_connection_errors=False,
    )


def launch(url: str, kinds: Sequence[Kind], *, worker: str, version: str, poll_s: float) -> None:
    """Take workflows of these kinds and this version in this process, which can do so once at a time."""
    DBOS(
        config=DBOSConfig(
            name=APPLICATION,
            system_database_url=url,
            executor_id=worker,
            application_version=version,
            serializer=DBOSPortableJSONSerializer(),
            enable_otlp=False,
            log_level="WARNING",
        )
    )
    for kind in kinds:
        DBOS.workflow(name=kind.name, max_recovery_attempts=kind.attempts)(kind.run)
    DBOS.launch()
    for kind in kinds:
        DBOS.register_queue(
            kind.name, worker_concurrency=kind.at_once, polling_interval_sec=poll_s, on_conflict="always_update"
        )


def end() -> None:
    """Take no more of them."""
    DBOS.destroy(destroy_registry=True)


def recover(worker: str) -> None:
    """Put what a dead worker had back into its queues."""
    DBOS._recover_pending_workflows([worker])  # the engine has no public name for it


def current_id() -> str:
    """Id of the workflow that calls."""
    return str(DBOS.workflow_id)


def step(name: str, call: Callable[..., T], *args: object) -> T:
    """Run a step of the workflow that calls, or give what it gave before a crash; its result is JSON."""
    return DBOS.run_step({"name": name}, call, *args)


def enqueue_child(kind: str, workflow_id: str, version: str, *args: object) -> None:
    """Queue a workflow that is cancelled with the one that calls."""
    options: Mapping[str, str] = {
        "workflow_name": kind,
        "queue_name": kind,
        "workflow_id": workflow_id,
        "app_version": version,
    }
    DBOS.enqueue_workflow_with_options(options, *args)  # type: ignore[arg-type]


def publish(key: str, value: object) -> None:
    """Show others a value of the workflow that calls; from within a step, where it raises ``STOPPED`` too."""
    DBOS.set_event(key, value)
