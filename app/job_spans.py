"""OpenTelemetry spans of rebuilds: one for each step, all of a job in one trace, whichever workers took them.

The job's id is the id of its trace, so a rebuild that went on after a crash, or in another process, is one trace. Where
traces are off nothing of OpenTelemetry is imported. Messages of errors stay out, as they may name items.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast
from uuid import UUID

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

    from app.rebuild_steps import Request

P = ParamSpec("P")
T = TypeVar("T")


class JobSpans:
    """Makes the spans; without a provider none."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._tracer = None if provider is None else provider.get_tracer("crossbit.rebuild")

    @contextmanager
    def step(self, name: str, job_id: str, index: str) -> Iterator[None]:
        """A span for as long as the block lasts."""
        if self._tracer is None:
            yield
            return
        from opentelemetry.trace import StatusCode

        attributes = {"crossbit.job": job_id, "crossbit.index": index}
        with self._tracer.start_as_current_span(
            f"rebuild {name}",
            _trace_of(job_id),
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:  # also what ends a step early because its process ends
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def tell(self, **figures: int) -> None:
        """Add figures to the span of the step that this thread is in."""
        if self._tracer is not None:
            from opentelemetry import trace

            trace.get_current_span().set_attributes({f"crossbit.{name}": value for name, value in figures.items()})


class Steps(Protocol):
    """Whose methods are steps of a rebuild."""

    @property
    def spans(self) -> JobSpans:
        """What makes their spans."""

    @property
    def request(self) -> "Request":
        """What is rebuilt."""

    @property
    def work_dir(self) -> Path:
        """Folder of the job, named after it."""


def spanned(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Give each call of a method of ``Steps`` a span."""

    def decorate(run: Callable[P, T]) -> Callable[P, T]:
        @wraps(run)
        def run_in_span(*args: P.args, **kwargs: P.kwargs) -> T:
            steps = cast("Steps", args[0])
            with steps.spans.step(name, steps.work_dir.name, steps.request.index):
                return run(*args, **kwargs)

        return run_in_span

    return decorate


def _trace_of(job_id: str) -> "Context":
    """A context whose trace is that of the job; its root is the job itself, which is no span."""
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    number = UUID(job_id).int
    root = SpanContext(number, number % 2**64 or 1, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(root))
