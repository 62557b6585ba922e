"""What is trained on, and what is said where that is too little."""

import dataclasses

import pytest

from model.errors import ArchiveError
from model.items import ItemArchive, pairs
from model.training.choice import choose_items
from model.training.recipe import load_recipe

BASELINE, ITQ = load_recipe("baseline"), load_recipe("itq")


def without_split(archive: ItemArchive, items: int) -> ItemArchive:
    """The first items of the archive, as a small import has them."""
    cut = ItemArchive.open(archive.path)
    cut.info = dataclasses.replace(archive.info, split_seed=None, class_names=())
    cut.items = tuple(dataclasses.replace(item, split="", labels=()) for item in archive.items[:items])
    return cut


def test_training_and_validation_items_are_those_of_the_split(archive: ItemArchive) -> None:
    for recipe in (BASELINE, ITQ):
        choice = choose_items(recipe, archive)
        assert choice.train == archive.select(("train",))
        assert choice.validation == archive.select(("validation",))


def test_items_without_an_image_or_a_text_are_left_out(archive: ItemArchive) -> None:
    holed = ItemArchive.open(archive.path)
    first, second, *rest = archive.select(("train",))
    bare = (dataclasses.replace(first, image=None), dataclasses.replace(second, texts={"full": ("words",)}))
    holed.items = (*bare, *rest)
    assert choose_items(ITQ, holed).train == tuple(rest)


def test_a_small_data_set_is_offered_itq(archive: ItemArchive) -> None:
    message = "needs at least 200 items with an image and a text, found 50; add 150 more, or train `itq`"
    with pytest.raises(ArchiveError, match=message):
        choose_items(BASELINE, without_split(archive, 50))


def test_without_a_split_there_is_no_epoch_to_select(archive: ItemArchive) -> None:
    with pytest.raises(ArchiveError, match="needs a train and a validation split, found 200 and 0"):
        choose_items(BASELINE, without_split(archive, 200))


def test_itq_takes_every_item_where_there_is_no_split(archive: ItemArchive) -> None:
    small = without_split(archive, 50)
    assert choose_items(ITQ, small).train == small.items


def test_one_item_is_too_few_for_anything(archive: ItemArchive) -> None:
    with pytest.raises(ArchiveError, match="expected at least 2 items"):
        choose_items(ITQ, without_split(archive, 1))


def test_a_text_with_nothing_to_see_is_no_pair(archive: ItemArchive) -> None:
    first, *rest = archive.select(("train",))
    blank = dataclasses.replace(first, texts={"title": ("\u200b", "a cat")})
    assert pairs([blank, *rest[:1]], "title") == (rest[0],)
