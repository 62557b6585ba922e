"""From a data archive to the tensors that training reads: each item passes the frozen towers once."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.encode import FeatureEncoder
from encoders.prefix import PrefixCache
from model import ranks
from model.errors import ArchiveError, ImageError
from model.images import decode_image
from model.items import Item, ItemArchive, caption, multi_hot
from model.methods.protocol import Features
from model.skipped import Skipped
from model.states import States

Progress = Callable[[int, int], None]  # (done, total)
SHARD = 64  # items of one unit of work; one cache shard each


@dataclass(frozen=True, slots=True)
class Inside:
    """That states inside the towers are read as well, and which."""

    cache: PrefixCache
    images: bool  # or the texts alone
    views: int = 1  # of each image


@dataclass(frozen=True, slots=True)
class ReadFeatures:
    """Features of the items that can be read, and what became of the others."""

    features: Features
    kept: NDArray[np.bool_]  # (N,) by item
    skipped: tuple[Skipped, ...]


def fill_cache(
    archive: ItemArchive,
    items: Sequence[Item],
    encoder: FeatureEncoder,
    *,
    captions: str,
    inside: Inside | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> None:
    """Let items pass the towers, each rank a part of them, until the caches on disk hold all.

    What cannot be read is left for ``read_features`` to say, which needs an encoder that sees the others' part.
    """
    own = items[ranks.rank() :: ranks.size()]
    for _ in _read_shards(archive, own, encoder, captions, inside, workers, progress):
        pass
    ranks.wait()


def read_features(
    archive: ItemArchive,
    items: Sequence[Item],
    encoder: FeatureEncoder,
    *,
    captions: str,
    inside: Inside | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> ReadFeatures:
    """Features of items that have both an image and a text, labels as multi-hot columns in class order.

    An item whose image is missing or cannot be decoded is skipped.

    Raises:
        ArchiveError: no item can be read, or one lacks a text of this caption variant.
    """
    read = list(_read_shards(archive, items, encoder, captions, inside, workers, progress))
    kept = np.array([good for shard in read for good in shard.kept], dtype=np.bool_)
    skipped = tuple(one for shard in read for one in shard.skipped)
    full = [shard for shard in read if any(shard.kept)]
    if not full:
        raise ArchiveError(
            f"{archive.info.name}: none of {len(items):,} images can be read; the first, {skipped[0].id}: "
            f"{skipped[0].reason}"
        )
    names = archive.info.class_names
    usable = [item for item, good in zip(items, kept, strict=True) if good]
    features = Features(
        torch.from_numpy(np.concatenate([shard.images for shard in full])),
        torch.from_numpy(np.concatenate([shard.texts for shard in full])),
        torch.from_numpy(multi_hot(usable, names)).float() if names else None,
        None if inside is None else _states(inside, full),
        tuple(item.id for item in usable),
    )
    return ReadFeatures(features, kept, skipped)


@dataclass(frozen=True, slots=True)
class _Shard:
    images: NDArray[np.float32]
    texts: NDArray[np.float32]
    kept: list[bool]
    skipped: list[Skipped]
    image_keys: Sequence[str] = ()  # of the prefix cache
    text_keys: Sequence[tuple[str, ...]] = ()


def _read_shards(
    archive: ItemArchive,
    items: Sequence[Item],
    encoder: FeatureEncoder,
    captions: str,
    inside: Inside | None,
    workers: int,
    progress: Progress | None,
) -> Iterator[_Shard]:
    shards = [items[start : start + SHARD] for start in range(0, len(items), SHARD)]
    done = 0
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for shard in pool.map(lambda part: _read_shard(archive, part, encoder, captions, inside), shards):
            yield shard
            done += len(shard.kept)
            if progress is not None:
                progress(done, len(items))


def _states(inside: Inside, shards: Sequence[_Shard]) -> States:
    images = [key for shard in shards for key in shard.image_keys]
    return States(inside.cache, images, [keys for shard in shards for keys in shard.text_keys], inside.views)


def _read_shard(
    archive: ItemArchive, items: Sequence[Item], encoder: FeatureEncoder, captions: str, inside: Inside | None
) -> _Shard:
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
    features = encoder.encode_images(images), encoder.encode_texts(texts).features
    if inside is None:
        return _Shard(*features, kept, skipped)
    image_keys = inside.cache.add_images(images, inside.views) if inside.images else ()
    return _Shard(*features, kept, skipped, image_keys, inside.cache.add_texts(texts))
