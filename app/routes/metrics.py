"""``GET /metrics``: figures for Prometheus."""

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from app.routes.dependencies import RuntimeOf

router = APIRouter(tags=["probes"])


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(runtime: RuntimeOf) -> PlainTextResponse:
    """Figures of this process in the Prometheus text format."""
    return PlainTextResponse(runtime.metrics.render(), media_type=CONTENT_TYPE_LATEST)
