"""``/v1/indexes``: what is served, its items and their pictures, rebuild and rollback."""

from dataclasses import asdict
from typing import Annotated, Any  # Any: OpenAPI is JSON

from fastapi import APIRouter, Header, Request, Response, status

from app.answers import image_url, image_version
from app.problems import Problem
from app.routes.dependencies import JobsOf, RuntimeOf
from app.routes.openapi import SERVED, problems
from app.runtime import Served
from app.schemas.base import ModelReference, PresenceBody
from app.schemas.indexes import (
    CodeDiagnostics,
    ColumnBody,
    IndexBody,
    IndexList,
    IndexSummary,
    ItemBody,
    PresenceCountsBody,
    RefusedIndex,
)
from app.schemas.jobs import JobBody, PointerBody, RebuildRequest, RollbackRequest
from index.generations import IndexDirectory
from index.manifest import MODALITIES, PAIR

router = APIRouter(prefix="/v1/indexes", tags=["indexes"])

PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The caller has it already."},
}
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
        fields={name: kind.value for name, kind in served.snapshot.fields.items()},
        columns={column: _column(served, column) for column in manifest.columns},
    )


@router.get(
    "/{name}/items/{item_id:path}/image",
    response_class=Response,
    responses=problems(*SERVED, "item_not_found") | PICTURE,
)
def show_image(name: str, item_id: str, runtime: RuntimeOf, request: Request, v: str | None = None) -> Response:
    """The item's picture, at most 256 px a side, as WebP; under the URL that answers give, it never changes."""
    snapshot = runtime.index(name).snapshot
    thumbnail = snapshot.thumbnail(item_id)
    if thumbnail is None:
        raise Problem("item_not_found", f"expected an item with a picture, but item {item_id!r} has none")
    version = image_version(snapshot.item(item_id).content_hash)
    etag = f'"{version}"'
    caching = "private, max-age=31536000, immutable" if v == version else "private, no-cache"
    headers = {"Cache-Control": caching, "ETag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(thumbnail, media_type="image/webp", headers=headers)


@router.get("/{name}/items/{item_id:path}", responses=problems(*SERVED, "item_not_found"))
def show_item(name: str, item_id: str, runtime: RuntimeOf) -> ItemBody:
    """What the index stores of an item."""
    snapshot = runtime.index(name).snapshot
    item = snapshot.item(item_id)
    return ItemBody(
        id=item.id,
        text=item.text,
        metadata=dict(item.metadata),
        codes={modality: list(codes) for modality, codes in item.codes.items()},
        content_hash=item.content_hash,
        image_url=image_url(name, item.id, item.content_hash) if item.has_thumbnail else None,
        presence=PresenceBody.of(item.presence),
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
