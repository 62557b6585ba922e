"""``/v1/indexes``: what is served, rebuild and rollback."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Header, Response, status

from app.routes.dependencies import JobsOf, RuntimeOf
from app.routes.openapi import SERVED, problems
from app.runtime import Served
from app.schemas.base import ModelReference
from app.schemas.indexes import (
    CodeDiagnostics,
    ColumnBody,
    IndexBody,
    IndexList,
    IndexSummary,
    PresenceCountsBody,
    RefusedIndex,
)
from app.schemas.jobs import JobBody, PointerBody, RebuildRequest, RollbackRequest
from index.generations import IndexDirectory
from index.manifest import MODALITIES, PAIR

router = APIRouter(prefix="/v1/indexes", tags=["indexes"])

LOCATION = {"Location": {"description": "Where the job is.", "required": True, "schema": {"type": "string"}}}

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=200)]


@router.get("")
def list_all(runtime: RuntimeOf) -> IndexList:
    """Every index."""
    return IndexList(
        indexes=[_summary(served) for served in runtime.served().values()],
        refused=[
            RefusedIndex(name=name, code=refusal.code, detail=refusal.detail)
            for name, refusal in runtime.refused().items()
        ],
    )


@router.get("/{name}", responses=problems(*SERVED))
def show(name: str, runtime: RuntimeOf) -> IndexBody:
    """One index in full, with figures on its codes."""
    served = runtime.index(name)
    manifest = served.snapshot.manifest
    return IndexBody(
        name=name,
        generation=manifest.generation,
        generations=IndexDirectory(runtime.settings.indexes_dir / name).generations(),
        created=manifest.created,
        bits=manifest.bits,
        model=_model(served),
        model_loaded=served.hasher is not None,
        device_kind=manifest.device_kind,
        source=manifest.source,
        texts=manifest.texts,
        items=served.snapshot.item_count,
        edits=served.snapshot.edits,
        not_encoded=len(served.snapshot.pending),
        fields={name: kind.value for name, kind in served.snapshot.fields.items()},
        columns={column: _column(served, column) for column in manifest.columns},
    )


@router.post(
    "/{name}/rebuild",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems("index_not_found", "model_not_found", "rebuild_running", "not_ready", "insufficient_storage")
    | {202: {"headers": LOCATION}},
)
def rebuild(
    name: str,
    jobs: JobsOf,
    response: Response,
    body: RebuildRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> JobBody:
    """Start making a new generation; the running one serves until the new one is verified.

    An index that does not exist yet needs a source and a model.
    """
    wanted = body or RebuildRequest()
    job = jobs.start(
        name,
        source=wanted.source,
        model=wanted.model,
        bits=wanted.bits,
        reuse=wanted.reuse,
        dry_run=wanted.dry_run,
        idempotency_key=idempotency_key,
    )
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobBody.of(job)


@router.post("/{name}/rollback", responses=problems(*SERVED))
def rollback(name: str, runtime: RuntimeOf, body: RollbackRequest | None = None) -> PointerBody:
    """Serve an earlier generation again, with the model that made it."""
    served = runtime.rollback(name, None if body is None else body.generation)
    return PointerBody(index=name, generation=served.snapshot.generation, model=_model(served))


def _summary(served: Served) -> IndexSummary:
    manifest = served.snapshot.manifest
    return IndexSummary(
        name=manifest.index,
        generation=manifest.generation,
        bits=manifest.bits,
        model=_model(served),
        source=manifest.source,
        columns={
            modality: served.snapshot.items_in(modality) if modality in served.snapshot.columns else 0
            for modality in MODALITIES
        },
    )


def _model(served: Served) -> ModelReference:
    manifest = served.snapshot.manifest
    return ModelReference(name=manifest.artifact, fingerprint=manifest.fingerprint)


def _column(served: Served, column: str) -> ColumnBody:
    figures = served.snapshot.diagnostics(column)
    return ColumnBody(
        items=served.snapshot.items_in(column),
        codes=figures.codes,
        distinct=figures.distinct,
        diagnostics=CodeDiagnostics(
            balance_min=figures.balance_min,
            balance_max=figures.balance_max,
            dead_bits=figures.dead_bits,
            distinct_ratio=figures.distinct_ratio,
            largest_bucket=figures.largest_bucket,
        ),
        presence=PresenceCountsBody(**asdict(served.snapshot.presence_counts())) if column == PAIR else None,
    )
