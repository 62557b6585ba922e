"""Structured logs: short past-tense events with fields, on standard error; never a user's text or image.

structlog brings in rich, a fifth of what importing the service costs; it is imported with the first event.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from traceback import StackSummary, walk_tb
from typing import TYPE_CHECKING, TextIO

from app.settings import Settings

if TYPE_CHECKING:
    from structlog.typing import ExcInfo, Processor


class Log:
    """The events of one module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, event: str, **fields: object) -> None:
        """What only somebody who looks for a fault wants to know."""
        self.log(logging.DEBUG, event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """What happened as it should."""
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """What was refused or went another way."""
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """What broke."""
        self.log(logging.ERROR, event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """What broke, with the exception that is being handled."""
        self.log(logging.ERROR, event, exc_info=True, **fields)

    def log(self, level: int, event: str, **fields: object) -> None:
        """An event of any level, as ``logging`` counts levels."""
        import structlog

        structlog.get_logger(self._name).log(level, event, **fields)


def with_fields(**fields: object) -> AbstractContextManager[None]:
    """Every event inside carries these fields, in whichever module or task it is written."""
    from structlog.contextvars import bound_contextvars

    return bound_contextvars(**fields)


class EventHandler(logging.Handler):
    """Passes what a library logs on as an event; without its tracebacks, which repeat what our own events say."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self._event = event

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's message under the event's name."""
        import structlog

        structlog.get_logger(record.name).log(record.levelno, self._event, message=record.getMessage())


def configure_logs(settings: Settings) -> None:
    """Set up structlog for this process: lines for people on a terminal, JSON lines elsewhere."""
    import structlog

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


def _write_exception(stream: TextIO, info: "ExcInfo") -> None:
    stream.write("\n".join(where_from(info[1])))
