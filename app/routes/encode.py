"""``POST /v1/encode``: codes of texts, images and pairs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.inputs import Upload, check_texts, decode_base64, is_json, read_form, read_json
from app.models import require_modality
from app.pair_inputs import Pairs, read_pairs
from app.queries import Query
from app.routes.dependencies import LimitsOf, QueryOf
from app.routes.openapi import DECODED, ENCODED, FINGERPRINT, SERVED, image_body, problems
from app.schemas.base import ModelReference
from app.schemas.encode import Encoded, EncodeFields, EncodeOptions, ImageEncode, Margins, PairEncodeFields, TextEncode
from index.codes import to_hex
from model.hasher import EncodedBatch, Hasher, Modality
from model.margins import near_zero_bits

DEFAULT_BITS = 64

router = APIRouter(prefix="/v1/encode", tags=["encode"])


async def read_images(request: Request, limits: LimitsOf) -> Upload[EncodeOptions]:
    """The images and options of a form or a JSON body."""
    if is_json(request):
        body = await read_json(request, ImageEncode)
        return Upload([decode_base64(body.image_base64)], body)
    form = await read_form(request, EncodeFields, limits)
    return Upload(form.files, form.fields)


async def read_pair_form(request: Request, limits: LimitsOf) -> Pairs[PairEncodeFields]:
    """The images, texts and options of a form."""
    return await read_pairs(request, PairEncodeFields, limits)


class Encoding:
    """One encode request and the model that answers it."""

    def __init__(self, name: str, hasher: Hasher, query: Query) -> None:
        self.query = query
        self.hasher = hasher
        self._name = name

    @classmethod
    async def open(cls, query: Query, options: EncodeOptions, modality: Modality) -> "Encoding":
        """The model of the index that the options name, or the model that they name itself."""
        runtime = query.runtime
        if options.model is None:
            served = runtime.index(options.index)
            return cls(served.snapshot.manifest.artifact, served.encoder(modality), query)
        name, bits = options.model, options.bits or DEFAULT_BITS
        async with query.deadline():
            hasher = await query.load(lambda: runtime.models.get(name, bits))
        require_modality(hasher, modality, name)
        return cls(name, hasher, query)

    def answer(self, response: Response, batch: EncodedBatch) -> Encoded:
        """The body."""
        response.headers["X-Model-Fingerprint"] = self.hasher.fingerprint
        means = batch.margins.mean(axis=1)
        lows, highs = batch.margins.min(axis=1), batch.margins.max(axis=1)
        return Encoded(
            codes=[to_hex(code) for code in batch.codes],
            bits=self.hasher.bits,
            margins=[
                Margins(min=low, mean=mean, max=high)
                for low, mean, high in zip(lows.tolist(), means.tolist(), highs.tolist(), strict=True)
            ],
            near_zero_bits=near_zero_bits(batch).tolist(),
            truncated_tokens=batch.truncated_tokens.tolist(),
            fingerprint=self.hasher.fingerprint,
            model=ModelReference(name=self._name, fingerprint=self.hasher.fingerprint),
            took_ms=self.query.took(),
        )


@router.post("/text", responses=problems(*SERVED, *ENCODED, sends=FINGERPRINT))
async def encode_text(body: TextEncode, query: QueryOf, limits: LimitsOf, response: Response) -> Encoded:
    """Codes of one text or several."""
    check_texts(body.texts, limits)
    encoding = await Encoding.open(query, body, Modality.TEXT)
    async with encoding.query.deadline():
        return encoding.answer(response, await encoding.query.encode_texts(encoding.hasher, body.texts))


@router.post(
    "/image",
    openapi_extra=image_body(EncodeFields, ImageEncode),
    responses=problems(*SERVED, *ENCODED, *DECODED, sends=FINGERPRINT),
)
async def encode_image(
    upload: Annotated[Upload[EncodeOptions], Depends(read_images)], query: QueryOf, response: Response
) -> Encoded:
    """Codes of one image or several."""
    encoding = await Encoding.open(query, upload.fields, Modality.IMAGE)
    async with encoding.query.deadline():
        return encoding.answer(response, await encoding.query.encode_images(encoding.hasher, upload.files))


@router.post(
    "/pair",
    openapi_extra=image_body(PairEncodeFields),
    responses=problems(*SERVED, *ENCODED, *DECODED, sends=FINGERPRINT),
)
async def encode_pair(
    pairs: Annotated[Pairs[PairEncodeFields], Depends(read_pair_form)], query: QueryOf, response: Response
) -> Encoded:
    """Codes of images fused with texts, for models that fuse."""
    encoding = await Encoding.open(query, pairs.fields, Modality.PAIR)
    async with encoding.query.deadline():
        batch = await encoding.query.encode_pairs(encoding.hasher, pairs.files, pairs.texts)
        return encoding.answer(response, batch)
