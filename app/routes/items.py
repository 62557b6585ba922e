"""``/v1/indexes/{name}/items``: what is stored of an item, its picture, appending and deleting."""

from typing import Annotated, Any  # Any: OpenAPI is JSON

from fastapi import APIRouter, Depends, Request, Response, status

from app.answers import image_url, image_version
from app.drafts import PICTURE, Draft, read_drafts
from app.item_edits import append_items, delete_item
from app.problems import Problem
from app.routes.dependencies import LimitsOf, QueryOf, RuntimeOf
from app.routes.openapi import DECODED, ENCODED, FINGERPRINT, GENERATION, SERVED, WORKED, image_body, problems
from app.schemas.base import IndexReference, ModelReference, PresenceBody
from app.schemas.indexes import ItemBody
from app.schemas.items import AppendedBody, AppendRequest, DeletedBody, DraftFields

router = APIRouter(prefix="/v1/indexes/{name}/items", tags=["items"])

WEBP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The caller has it already."},
}


async def drafts_of(request: Request, limits: LimitsOf) -> list[Draft]:
    """The items of a JSON body, or the one of a form."""
    return await read_drafts(request, limits)


@router.get(
    "/{item_id:path}/image",
    response_class=Response,
    responses=problems(*SERVED, "item_not_found") | WEBP,
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


@router.get("/{item_id:path}", responses=problems(*SERVED, "item_not_found"))
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
    "",
    openapi_extra=image_body(DraftFields, AppendRequest),
    responses=problems(*SERVED, *ENCODED, *DECODED, sends=FINGERPRINT | GENERATION),
)
async def append(
    name: str, drafts: Annotated[list[Draft], Depends(drafts_of)], query: QueryOf, response: Response
) -> AppendedBody:
    """Add items, each in the place of the one that has its id: all of them or none, and on disk before the answer."""
    async with query.deadline():
        appended = await append_items(query.runtime, query, name, drafts)
    manifest = appended.served.snapshot.manifest
    response.headers["X-Index-Generation"] = str(manifest.generation)
    response.headers["X-Model-Fingerprint"] = manifest.fingerprint
    return AppendedBody(
        appended=len(drafts),
        position=appended.position,
        truncated_tokens=appended.truncated_tokens,
        index=IndexReference(name=name, generation=manifest.generation),
        model=ModelReference(name=manifest.artifact, fingerprint=manifest.fingerprint),
        took_ms=query.took(),
    )


@router.delete("/{item_id:path}", responses=problems(*SERVED, "item_not_found", *WORKED))
async def delete(name: str, item_id: str, query: QueryOf) -> DeletedBody:
    """Delete an item, on disk before the answer; no rebuild brings it back, only appending it again."""
    if item_id.endswith(PICTURE):
        detail = "this route answers GET, HEAD; a picture is deleted with its item"
        raise Problem("method_not_allowed", detail, headers={"Allow": "GET, HEAD"})
    async with query.deadline():
        served, position = await delete_item(query.runtime, name, item_id)
    index = IndexReference(name=name, generation=served.snapshot.generation)
    return DeletedBody(id=item_id, position=position, index=index)
