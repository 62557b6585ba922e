"""``/v1/models``: what encodes, and how busy it is."""

from fastapi import APIRouter

from app.routes.dependencies import RuntimeOf
from app.runtime import Runtime
from app.schemas.indexes import LimitsBody, ModelBody, ModelList, QueueBody
from model.hasher import Hasher, Modality

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
def list_all(runtime: RuntimeOf) -> ModelList:
    """The models in memory and those on disk."""
    limits = runtime.settings.limits
    return ModelList(
        models=[_model(runtime, name, hasher) for (name, _), hasher in sorted(runtime.models.loaded().items())],
        available=runtime.models.names(),
        limits=LimitsBody(**limits.model_dump(include=set(LimitsBody.model_fields))),
        queues=_queues(runtime),
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


def _queues(runtime: Runtime) -> list[QueueBody]:
    encoding = runtime.encoding
    by_modality = [
        QueueBody(stage=encoding.name, modality=one.value, waiting=encoding.waiting(one), limit=encoding.queue)
        for one in Modality
    ]
    others = (runtime.loading, runtime.decoding, runtime.searching, runtime.editing)
    return by_modality + [QueueBody(stage=one.name, waiting=one.waiting, limit=one.queue) for one in others]
