"""From a data archive to the tensors that training reads: each item passes the frozen towers once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from encoders.encode import FeatureEncoder
from model.images import decode_image
from model.items import Item, ItemArchive, caption, multi_hot
from model.methods.protocol import Features

Progress = Callable[[int, int], None]  # (done, total)
SHARD = 64  # items of one unit of work; one cache shard each


def read_features(
    archive: ItemArchive,
    items: Sequence[Item],
    encoder: FeatureEncoder,
    *,
    captions: str,
    workers: int = 2,
    progress: Progress | None = None,
) -> Features:
    """Features of items that have both an image and a text, labels as multi-hot columns in class order.

    Raises:
        ArchiveError: an item lacks its image or a text of this caption variant.
    """
    shards = [items[start : start + SHARD] for start in range(0, len(items), SHARD)]
    images: list[NDArray[np.float32]] = []
    texts: list[NDArray[np.float32]] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for shard in pool.map(lambda part: _read_shard(archive, part, encoder, captions), shards):
            images.append(shard[0])
            texts.append(shard[1])
            if progress is not None:
                progress(sum(map(len, images)), len(items))
    return Features(
        torch.from_numpy(np.concatenate(images)),
        torch.from_numpy(np.concatenate(texts)),
        torch.from_numpy(multi_hot(items, class_names)).float() if (class_names := archive.info.class_names) else None,
    )


def _read_shard(
    archive: ItemArchive, items: Sequence[Item], encoder: FeatureEncoder, captions: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    images = [decode_image(archive.read_image(item)) for item in items]
    texts = [caption(item, captions) for item in items]
    return encoder.encode_images(images), encoder.encode_texts(texts).features
