"""What reading the head of long texts alone loses: ``python benchmarks/long_texts.py [--items N]``.

Each item of ``openclipart`` gets one text as catalogues have them: its title, the same terms of use (more word pieces
than a chunk holds), its description and tags. ``baseline`` is trained and evaluated twice, on the default backbone,
which reads such texts in chunks, and on its ``@head`` variant. The texts hold label words, so the figures are high and
say nothing but the difference.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.training_progress import watch_training
from encoders.chunks import HEAD
from encoders.names import DEFAULT
from encoders.wordpieces import CONTEXT, load_tokenizer
from model.artifact import load_hasher
from model.data.archive import ArchiveWriter
from model.data.splits import split_hash
from model.evaluation.codes import encode_codes
from model.evaluation.results import evaluate_codes
from model.items import Item, ItemArchive, find_archive
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe

BITS = 64
DIRECTIONS = ("image_to_text", "text_to_image")
TERMS = (
    "Terms of use. The person who associated a work with this deed has dedicated the work to the public domain by "
    "waiving all of his or her rights to the work worldwide under copyright law, including all related and "
    "neighbouring rights, to the extent allowed by law. You can copy, modify, distribute and perform the work, even "
    "for commercial purposes, all without asking permission. In no way are the patent or trademark rights of any "
    "person affected, nor are the rights that other persons may have in the work or in how the work is used, such as "
    "publicity or privacy rights. Unless expressly stated otherwise, the person who associated a work with this deed "
    "makes no warranties about the work, and disclaims liability for all uses of the work, to the fullest extent "
    "permitted by applicable law. When using or citing the work, you should not imply endorsement by the author or "
    "the affirmer. "
)


def long_item(item: Item) -> Item:
    """Title, terms, then what the full caption says beyond the title."""
    title, full = item.texts["title"][0], item.texts["full"][0]
    text = f"{title}. {TERMS * 2}{full.removeprefix(title)}"
    return dataclasses.replace(item, texts={"long": (text,)})


def write_data(source: ItemArchive, path: Path, wanted: int) -> ItemArchive:
    """The first items of the seeded order, with the split that they have."""
    items = [long_item(item) for item in source.items if item.order < wanted]
    info = dataclasses.replace(
        source.info,
        name="long",
        captions=("long",),
        revision=f"{source.info.revision}, {len(items)} items, long texts",
        split_hash=split_hash({item.id: item.split for item in items}),
    )
    with ArchiveWriter(path) as writer:
        for item in items:
            writer.add(item, source.read_image(item))
        writer.finish(info)
    return ItemArchive.open(path)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3_476)
    parser.add_argument("--cache", type=Path, default=Path("var/cache"))
    options = parser.parse_args()
    table = Table("reads", "I2T whole", "T2I whole", "I2T unseen", "T2I unseen")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        source = ItemArchive.open(find_archive("openclipart", home / "data"))
        archive = write_data(source, home / "data" / "long" / "archive.sqlite", options.items)
        tokenizer = load_tokenizer()
        pieces = [len(tokenizer.encode(item.texts["long"][0]).ids) for item in archive.items]
        for name, backbone in (("chunks", DEFAULT), ("head", f"{DEFAULT}{HEAD}")):
            recipe = load_recipe("baseline", [f'backbone="{backbone}"'])
            folders = Folders(home / "runs", home / "artifacts", options.cache)
            with watch_training(recipe.optimiser.epochs) as watcher:
                train_artifact(recipe, archive, name, folders, device="cpu", progress=watcher.features)
            hasher = load_hasher(folders.artifacts / name, BITS, "cpu", options.cache)
            result = evaluate_codes(encode_codes(hasher, archive))
            sides = [side[way].map_all.expected for side in (result.whole, result.unseen) for way in DIRECTIONS]
            table.add_row(name, *(f"{figure:.3f}" for figure in sides))
    title = (
        f"baseline on {len(pieces):,} items, {BITS} bits, lone mAP@all; texts of {min(pieces):,} to {max(pieces):,} "
    )
    Console(width=120).print(f"{title}tokens, context {CONTEXT}", table)


if __name__ == "__main__":
    main()
