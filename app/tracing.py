"""OpenTelemetry traces by setting: FastAPI's own span of each request, with its id and stages, sent by OTLP.

Nothing that a request carries is in a span: paths (which may hold ids of items), query strings and made-up methods are
withheld; the route's template stands for the path. FastAPI's metrics and logs stay off: there is ``/metrics``, and its
log records quote the messages of exceptions, which may quote a user.
"""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import Scope

from app.failures import ExtraMissing
from app.logs import EventHandler
from app.roles import PROBED
from app.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

OFF = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)
WITHHELD = ("url.path", "url.query", "http.request.method_original")


def open_tracing(settings: Settings) -> "TracerProvider | None":
    """Who makes and sends spans, to be shut down at the end; none where no endpoint is set.

    Raises:
        ExtraMissing: the extra is not installed.
    """
    if settings.otlp_endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ExtraMissing(
            "CROSSBIT_OTLP_ENDPOINT is set: expected OpenTelemetry's SDK and exporter, found none; "
            "pip install 'crossbit[otel]', or unset it"
        ) from error

    class Withhold(SpanProcessor):
        """Takes out of each new span what its caller wrote."""

        def on_start(self, span: Span, parent_context: object = None) -> None:
            """Attributes cannot be deleted, so they are overwritten."""
            for name in WITHHELD:
                if name in (span.attributes or {}):
                    span.set_attribute(name, "withheld")

    logger = logging.getLogger("opentelemetry")  # says what could not be sent
    if not logger.handlers:
        logger.addHandler(EventHandler("tracing_logged"))
    resource = Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME", "crossbit")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(Withhold())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")))
    return provider


def telemetry(provider: "TracerProvider | None") -> TelemetryConfig:
    """What FastAPI is told: one span a request, none for probes; without a provider nothing at all."""
    if provider is None:
        return OFF
    return OFF | TelemetryConfig(tracing=True, tracer_provider=provider, operation_spans=False, exclude=_is_probe)


def describe_request(attributes: Mapping[str, str | float]) -> None:
    """Add to the span of the request that is being answered, if it has one."""
    trace.get_current_span().set_attributes({f"crossbit.{name}": value for name, value in attributes.items()})


def _is_probe(scope: Scope) -> bool:
    return scope.get("path") in PROBED
