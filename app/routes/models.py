"""``/v1/models``: what encodes, and how busy it is."""

from fastapi import APIRouter

from app.batching import Stage
from app.routes.dependencies import RuntimeOf
from app.runtime import Runtime
from app.schemas.indexes import LimitsBody, ModelBody, ModelList, QueueBody
from model.hasher import Hasher

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_all(runtime: RuntimeOf) -> ModelList:
    """The models in memory and those on disk."""
    limits = runtime.settings.limits
    return ModelList(
        models=[_model(runtime, name, hasher) for (name, _), hasher in sorted(runtime.models.loaded().items())],
        available=runtime.models.names(),
        limits=LimitsBody(**limits.model_dump(include=set(LimitsBody.model_fields))),
        queues=[_queue(stage) for stage in (runtime.encoding, runtime.searching, runtime.editing)],
    )


def _model(runtime: Runtime, name: str, hasher: Hasher) -> ModelBody:
    return ModelBody(
        name=name,
        method=runtime.models.method(name),
        bits=hasher.bits,
        modalities=sorted(hasher.modalities),
        fingerprint=hasher.fingerprint,
        device=hasher.device,
        indexes=[
            index
            for index, served in runtime.served().items()
            if served.snapshot.manifest.fingerprint == hasher.fingerprint
        ],
    )


def _queue(stage: Stage) -> QueueBody:
    return QueueBody(stage=stage.name, waiting=stage.waiting, limit=stage.queue)
