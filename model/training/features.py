"""From a data archive to the tensors that training reads: each item passes the frozen towers once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.encode import FeatureEncoder
from model.errors import ArchiveError, ImageError
from model.images import decode_image
from model.items import Item, ItemArchive, caption, multi_hot
from model.methods.protocol import Features
from model.skipped import Skipped

Progress = Callable[[int, int], None]  # (done, total)
SHARD = 64  # items of one unit of work; one cache shard each


@dataclass(frozen=True, slots=True)
class ReadFeatures:
    """Features of the items that can be read, and what became of the others."""

    features: Features
    kept: NDArray[np.bool_]  # (N,) by item
    skipped: tuple[Skipped, ...]


def read_features(
    archive: ItemArchive,
    items: Sequence[Item],
    encoder: FeatureEncoder,
    *,
    captions: str,
    workers: int = 2,
    progress: Progress | None = None,
) -> ReadFeatures:
    """Features of items that have both an image and a text, labels as multi-hot columns in class order.

    An item whose image is missing or cannot be decoded is skipped.

    Raises:
        ArchiveError: no item can be read, or one lacks a text of this caption variant.
    """
    shards = [items[start : start + SHARD] for start in range(0, len(items), SHARD)]
    read: list[_Shard] = []
    done = 0
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for shard in pool.map(lambda part: _read_shard(archive, part, encoder, captions), shards):
            read.append(shard)
            done += len(shard.kept)
            if progress is not None:
                progress(done, len(items))
    kept = np.array([good for shard in read for good in shard.kept], dtype=np.bool_)
    skipped = tuple(one for shard in read for one in shard.skipped)
    full = [shard for shard in read if any(shard.kept)]
    if not full:
        raise ArchiveError(
            f"{archive.info.name}: none of {len(items):,} images can be read; the first, {skipped[0].id}: "
            f"{skipped[0].reason}"
        )
    names = archive.info.class_names
    labelled = [item for item, good in zip(items, kept, strict=True) if good] if names else []
    features = Features(
        torch.from_numpy(np.concatenate([shard.images for shard in full])),
        torch.from_numpy(np.concatenate([shard.texts for shard in full])),
        torch.from_numpy(multi_hot(labelled, names)).float() if names else None,
    )
    return ReadFeatures(features, kept, skipped)


@dataclass(frozen=True, slots=True)
class _Shard:
    images: NDArray[np.float32]
    texts: NDArray[np.float32]
    kept: list[bool]
    skipped: list[Skipped]


def _read_shard(archive: ItemArchive, items: Sequence[Item], encoder: FeatureEncoder, captions: str) -> _Shard:
    images, texts, kept, skipped = [], [], [], []
    for item in items:
        try:
            image = decode_image(archive.read_image(item))
        except (ArchiveError, ImageError) as error:
            skipped.append(Skipped(item.id, str(error)))
            kept.append(False)
        else:
            images.append(image)
            texts.append(caption(item, captions))
            kept.append(True)
    none = np.empty((0, 0), dtype=np.float32)
    if not images:
        return _Shard(none, none, kept, skipped)
    return _Shard(encoder.encode_images(images), encoder.encode_texts(texts).features, kept, skipped)
