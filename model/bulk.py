"""Many inputs at once: a bad one is left out, counted and listed with its reason, and never ends the run.

``sift`` reads inputs and sets the bad ones aside; ``in_batches`` works through batches in threads, so that reading one
batch overlaps with encoding another; ``encode_in_bulk`` is both, from inputs to codes.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from encoders.texts import check_text
from encoders.texts import is_visible as is_visible
from model.errors import EncoderError, ModelError
from model.skipped import Skipped as Skipped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from model.hasher import EncodedBatch, Hasher

    Encodable: TypeAlias = Image | str | tuple[Image, str]  # the last is fused

Input = TypeVar("Input")
Value = TypeVar("Value")
Result = TypeVar("Result")

BATCH = 64  # inputs of one call: enough texts of one length to share a forward
BAD_INPUT = (ModelError, EncoderError, OSError)  # what reading or decoding one input may raise


@dataclass(frozen=True, slots=True)
class Sifted(Generic[Input, Value]):
    """Inputs that could be read with their values, in order, and those that could not."""

    inputs: list[Input]
    values: list[Value]
    skipped: list[Skipped]


@dataclass(frozen=True, slots=True)
class Bulk:
    """Codes of the inputs that were not skipped, in order."""

    ids: list[str]
    codes: "NDArray[np.uint8]"  # (len(ids), bits / 8)
    truncated_tokens: int  # of all texts together
    skipped: list[Skipped]


def sift(
    inputs: Sequence[Input], read: Callable[[Input], Value], name: Callable[[Input], str] = str
) -> Sifted[Input, Value]:
    """Read each input; one that raises ``BAD_INPUT`` is set aside under its name. Any other error is a defect here."""
    found: Sifted[Input, Value] = Sifted([], [], [])
    for one in inputs:
        try:
            value = read(one)
        except BAD_INPUT as error:
            found.skipped.append(Skipped(name(one), str(error)))
        else:
            found.inputs.append(one)
            found.values.append(value)
    return found


def in_batches(
    inputs: Sequence[Input],
    work: Callable[[Sequence[Input]], Result],
    *,
    batch: int = BATCH,
    workers: int = 2,
    advance: Callable[[int], None] = lambda count: None,
) -> Generator[Result]:
    """``work`` on each batch, results in order; at most two batches a worker are held, however slow the reader is."""
    batches = [inputs[start : start + batch] for start in range(0, len(inputs), batch)]
    with ThreadPoolExecutor(workers, thread_name_prefix="bulk") as pool:
        waiting = iter(batches)
        running = [pool.submit(work, part) for part in islice(waiting, 2 * workers)]
        try:
            for part in batches:
                result = running.pop(0).result()
                running += [pool.submit(work, following) for following in islice(waiting, 1)]
                advance(len(part))
                yield result
        finally:
            for future in running:
                future.cancel()


def encode_in_bulk(
    hasher: "Hasher",
    inputs: Sequence[Input],
    read: "Callable[[Input], Encodable]",
    *,
    name: Callable[[Input], str] = str,
    batch: int = BATCH,
    workers: int = 2,
    advance: Callable[[int], None] = lambda count: None,
) -> Bulk:
    """Codes of everything that ``read`` turns into something ``Encodable``, all of one kind."""
    import numpy as np

    def work(part: Sequence[Input]) -> "tuple[list[str], NDArray[np.uint8], int, list[Skipped]]":
        sifted = sift(part, lambda one: _checked(read(one)), name)
        encoded = encode_values(hasher, sifted.values)
        return list(map(name, sifted.inputs)), encoded.codes, int(encoded.truncated_tokens.sum()), sifted.skipped

    ids: list[str] = []
    codes = [np.empty((0, hasher.bits // 8), dtype=np.uint8)]
    skipped: list[Skipped] = []
    truncated = 0
    with closing(in_batches(inputs, work, batch=batch, workers=workers, advance=advance)) as results:
        for some_ids, some_codes, cut, bad in results:
            ids += some_ids
            codes.append(some_codes)
            truncated += cut
            skipped += bad
    return Bulk(ids, np.concatenate(codes), truncated, skipped)


def encode_values(hasher: "Hasher", values: "Sequence[Encodable]") -> "EncodedBatch":
    """Codes of images, of texts, or of pairs of an image and a text, all of one kind."""
    pairs = [value for value in values if isinstance(value, tuple)]
    if pairs:
        return hasher.encode_pairs([image for image, _ in pairs], [text for _, text in pairs])
    texts = [value for value in values if isinstance(value, str)]
    if texts:
        return hasher.encode_texts(texts)
    return hasher.encode_images([value for value in values if not isinstance(value, str | tuple)])


def _checked(value: "Encodable") -> "Encodable":
    text = value[1] if isinstance(value, tuple) else value
    if isinstance(text, str):
        check_text(text)
    return value
