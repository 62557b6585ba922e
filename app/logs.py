"""Structured logs: short past-tense events with fields, on standard error; never a user's text or image."""

import logging
import sys
from collections.abc import Iterator
from traceback import StackSummary, walk_tb
from typing import TextIO

import structlog
from structlog.typing import ExcInfo, Processor

from app.settings import Settings


class EventHandler(logging.Handler):
    """Passes what a library logs on as an event; without its tracebacks, which repeat what our own events say."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's message under the event's name."""
        structlog.get_logger(record.name).log(record.levelno, self._event, message=record.getMessage())


def configure_logs(settings: Settings) -> None:
    """Set up structlog for this process: lines for people on a terminal, JSON lines elsewhere."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    final: list[Processor] = (
        [
            structlog.processors.ExceptionRenderer(lambda info: list(where_from(info[1]))),
            structlog.processors.JSONRenderer(sort_keys=True),
        ]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=_write_exception)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *final,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),  # whatever standard error is by then
    )


def where_from(error: BaseException | None) -> Iterator[str]:
    """Types and stack of an exception and its causes, without messages: those may quote what a user sent."""
    while error is not None:
        yield type(error).__qualname__
        for frame in StackSummary.extract(walk_tb(error.__traceback__), lookup_lines=False):
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _write_exception(stream: TextIO, info: ExcInfo) -> None:
    stream.write("\n".join(where_from(info[1])))
