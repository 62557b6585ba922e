"""``POST /v1/search``: by text, image, pair, code and item."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Request, Response

from app.answers import Search
from app.inputs import Upload, check_texts, decode_base64, is_json, read_form, read_json
from app.pair_inputs import Pairs, read_pairs
from app.problems import Problem
from app.routes.dependencies import LimitsOf, QueryOf
from app.routes.openapi import DECODED, ENCODED, FINGERPRINT, GENERATION, SEARCHED, image_body, problems
from app.schemas.search import (
    Answer,
    Answers,
    CodeSearch,
    ImageFields,
    ImageSearch,
    ItemSearch,
    PairFields,
    SearchOptions,
    TextSearch,
)
from index.codes import from_hex
from model.hasher import Modality

router = APIRouter(prefix="/v1/search", tags=["search"])

SENT = FINGERPRINT | GENERATION


async def read_images(request: Request, limits: LimitsOf) -> Upload[SearchOptions]:
    """The images and options of a form or a JSON body."""
    if is_json(request):
        body = await read_json(request, ImageSearch)
        return Upload([decode_base64(body.image_base64)], body)
    form = await read_form(request, ImageFields, limits)
    return Upload(form.files, form.fields)


async def read_pair_form(request: Request, limits: LimitsOf) -> Pairs[PairFields]:
    """The images, texts and options of a form."""
    return await read_pairs(request, PairFields, limits)


@router.post("/text", responses=problems(*SEARCHED, *ENCODED, sends=SENT))
async def search_text(body: TextSearch, query: QueryOf, limits: LimitsOf, response: Response) -> Answer | Answers:
    """Search by one text or several; among the images, where no target is named."""
    check_texts(body.texts, limits)
    search = Search(query, body, len(body.texts))
    hasher = search.served.encoder(Modality.TEXT)
    async with search.query.deadline():
        batch = await search.query.encode_texts(hasher, body.texts)
        return await search.answer(
            response,
            batch.codes,
            target="image",
            fingerprint=hasher.fingerprint,
            single=body.query is not None,
            truncated_tokens=batch.truncated_tokens.tolist(),
        )


@router.post(
    "/image",
    openapi_extra=image_body(ImageFields, ImageSearch),
    responses=problems(*SEARCHED, *ENCODED, *DECODED, sends=SENT),
)
async def search_image(
    upload: Annotated[Upload[SearchOptions], Depends(read_images)], query: QueryOf, response: Response
) -> Answer | Answers:
    """Search by one image or several; among the texts, where no target is named."""
    search = Search(query, upload.fields, len(upload.files))
    hasher = search.served.encoder(Modality.IMAGE)
    async with search.query.deadline():
        batch = await search.query.encode_images(hasher, upload.files)
        return await search.answer(
            response, batch.codes, target="text", fingerprint=hasher.fingerprint, single=len(upload.files) == 1
        )


@router.post(
    "/pair",
    openapi_extra=image_body(PairFields),
    responses=problems(*SEARCHED, *ENCODED, *DECODED, sends=SENT),
)
async def search_pair(
    pairs: Annotated[Pairs[PairFields], Depends(read_pair_form)], query: QueryOf, response: Response
) -> Answer | Answers:
    """Search by images fused with texts, for models that fuse; among the pairs, where no target is named."""
    search = Search(query, pairs.fields, len(pairs.files))
    hasher = search.served.encoder(Modality.PAIR)
    async with search.query.deadline():
        batch = await search.query.encode_pairs(hasher, pairs.files, pairs.texts)
        return await search.answer(
            response,
            batch.codes,
            target="pair",
            fingerprint=hasher.fingerprint,
            single=len(pairs.files) == 1,
            truncated_tokens=batch.truncated_tokens.tolist(),
        )


@router.post("/code", responses=problems(*SEARCHED, sends=SENT))
async def search_code(body: CodeSearch, query: QueryOf, response: Response) -> Answer | Answers:
    """Search by codes made earlier, no model needed; among the images, where no target is named."""
    search = Search(query, body, len(body.codes))
    codes = np.stack([from_hex(code, search.served.snapshot.bits) for code in body.codes])
    async with search.query.deadline():
        return await search.answer(
            response, codes, target="image", fingerprint=body.fingerprint, single=len(body.codes) == 1
        )


@router.post("/item", responses=problems(*SEARCHED, "item_not_found", sends=SENT))
async def search_item(body: ItemSearch, query: QueryOf, response: Response) -> Answer | Answers:
    """More like a stored item, which is among the hits itself; in the same column, where no target is named."""
    search = Search(query, body, 1)
    snapshot = search.served.snapshot
    async with search.query.deadline():
        codes = await search.query.search(lambda: snapshot.codes_of(body.item_id, body.column))
        if not len(codes):
            detail = f"expected an item with a code in column {body.column!r}, but item {body.item_id!r} has none"
            raise Problem("modality_not_supported", detail)
        return await search.answer(
            response, codes[:1], target=body.column, fingerprint=snapshot.manifest.fingerprint, single=True
        )
