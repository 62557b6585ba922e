"""Which items of a data set a recipe trains on, and what is missing where it cannot."""

from collections.abc import Sequence
from dataclasses import dataclass

from model.data.splits import MIN_ITEMS
from model.errors import ArchiveError, RecipeError
from model.items import Item, ItemArchive, pairs
from model.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Choice:
    """Items with an image and a text, in item-id order."""

    captions: str  # variant of the texts
    train: Sequence[Item]
    validation: Sequence[Item]  # may be empty for a method in closed form


def choose_items(recipe: Recipe, archive: ItemArchive) -> Choice:
    """The training and validation pairs; a method in closed form also takes a small data set, or one without a split.

    Raises:
        ArchiveError: too little to train on; the message says what is missing.
        RecipeError: the caption variant does not exist.
    """
    captions = recipe.captions or archive.info.captions[0]
    if captions not in archive.info.captions:
        raise RecipeError(f"captions: expected one of {', '.join(archive.info.captions)}, found {captions!r}")
    train = archive.items if archive.info.split_seed is None else archive.select(("train",))
    choice = Choice(captions, pairs(train, captions), pairs(archive.select(("validation",)), captions))
    # counted without looking at a text: those of the queries are none of training's business
    usable = sum(item.image is not None and bool(item.texts.get(captions)) for item in archive.items)
    name = archive.info.name
    if recipe.closed_form:
        if len(choice.train) < 2:
            raise ArchiveError(f"{name}: expected at least 2 items with an image and a text, found {len(choice.train)}")
        return choice
    if usable < MIN_ITEMS:
        raise ArchiveError(
            f"{name}: {recipe.method} needs at least {MIN_ITEMS} items with an image and a text, found {usable}; "
            f"add {MIN_ITEMS - usable} more, or train `itq`, which needs two: crossbit train itq --data {name}"
        )
    if len(choice.train) < 2 or not choice.validation:
        raise ArchiveError(
            f"{name}: {recipe.method} needs a train and a validation split, found {len(choice.train)} and "
            f"{len(choice.validation)} items with an image and a text; build or import the data set with a split, or "
            f"train `itq`, which needs none: crossbit train itq --data {name}"
        )
    return choice
