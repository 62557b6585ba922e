from pathlib import Path

import pytest

from model.data.openclipart import (
    Rule,
    build_from_folder,
    clean_description,
    clean_tags,
    clean_title,
    full_caption,
    group_key,
)
from model.data.splits import SplitRule
from model.errors import ArchiveError
from model.items import Item, ItemArchive

RULE = Rule(
    min_label_images=2,
    repeated_title=3,
    split=SplitRule(seed=1, query=2, validation=1, unseen=2, max_query_group=2),
)
PUBLIC = "http://web.resource.org/cc/PublicDomain"


def svg(title: str, tags: str = "", *, radius: int = 5, description: str = "", licence: str = PUBLIC) -> str:
    items = "".join(f"<rdf:li>{tag}</rdf:li>" for tag in tags.split(",") if tag)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" xmlns:cc="http://web.resource.org/cc/" width="40" height="40"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><rdf:RDF><cc:Work><dc:title>{title}</dc:title><dc:description>{description}</dc:description>
<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject><cc:license rdf:resource="{licence}"/></cc:Work></rdf:RDF></metadata>
<circle cx="20" cy="20" r="{radius}" fill="#224466"/></svg>"""


FILES = {
    "animals/mammals/cat.svg": svg("Clipart by Jane Doe - Cat", "Cat,Hash(0x8a3cd28),clip art,2005"),
    "animals/mammals/cow.svg": svg("Cow", "cow", radius=6, description="A cow. Write to me@example.org"),
    "animals/pie.svg": svg("Pie", radius=7, description="Apple pie."),
    "computer/icons/cup.svg": svg("Cup", "cup of tea", radius=8),
    "food/bread_jane_01.svg": svg("Breakfast", radius=9),
    "food/milk_jane_02.svg": svg("breakfast", radius=10),
    "food/tea_jane_03.svg": svg("Breakfast", radius=11),
    "people/nobody.svg": svg("", "people", radius=12),
    "people/somebody.svg": svg("Somebody", "people", radius=13),
    "science/atom.svg": svg("Atom", "physics", radius=14),
    "tools/only_one.svg": svg("Only tool", radius=15),
    # left out:
    "animals/same_pixels.svg": svg("Another cat", "cat"),
    "animals/zero.svg": svg("Nothing to see", "cat", radius=0),
    "food/not_free.svg": svg("Not free", licence="http://creativecommons.org/licenses/GPL/2.0/", radius=16),
    "shapes/stars/star.svg": svg("Star", "people", radius=17),
}
LINKS = {"food/beverages/cup.svg": "computer/icons/cup.svg", "food/desserts/pie.svg": "animals/pie.svg"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> ItemArchive:
    folder = tmp_path_factory.mktemp("openclipart")
    write_tree(folder / "svg")
    build_from_folder(folder / "svg", folder / "archive.zip", rule=RULE)
    return ItemArchive.open(folder / "archive.zip")


def write_tree(root: Path) -> None:
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, target in LINKS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(root / target)


def by_file(archive: ItemArchive, file: str) -> Item:
    return next(item for item in archive.items if item.metadata["file"] == file)


def test_dropped_folders_blank_equal_and_unfree_drawings_are_left_out(archive: ItemArchive) -> None:
    assert {item.metadata["file"] for item in archive.items} == set(list(FILES)[:11])


def test_folders_and_tags_give_labels_and_junk_tags_are_gone(archive: ItemArchive) -> None:
    cat = by_file(archive, "animals/mammals/cat.svg")
    assert cat.labels == ("animal", "mammal")
    assert cat.metadata["tags"] == ["cat"]
    assert cat.texts == {"title": ("Cat",), "full": ("Cat: cat",)}


def test_the_folders_of_all_links_count_and_dropped_ones_do_not(archive: ItemArchive) -> None:
    pie = by_file(archive, "animals/pie.svg")
    assert pie.metadata["folders"] == ["animals", "food/desserts"]
    assert pie.labels == ("animal", "food")
    cup = by_file(archive, "computer/icons/cup.svg")
    assert cup.metadata["folders"] == ["food/beverages"]
    assert cup.labels == ("food",)


def test_labels_below_the_minimum_are_dropped(archive: ItemArchive) -> None:
    assert by_file(archive, "tools/only_one.svg").labels == ()
    assert archive.info.class_names == ("animal", "mammal", "food", "people")


def test_missing_and_repeated_titles_become_the_words_of_the_file_name(archive: ItemArchive) -> None:
    assert by_file(archive, "people/nobody.svg").texts["title"] == ("nobody",)
    assert by_file(archive, "food/milk_jane_02.svg").texts["title"] == ("milk jane",)


def test_a_description_enters_only_the_full_caption_and_never_with_an_address(archive: ItemArchive) -> None:
    assert by_file(archive, "animals/pie.svg").texts == {"title": ("Pie",), "full": ("Pie. Apple pie",)}
    assert by_file(archive, "animals/mammals/cow.svg").texts["full"] == ("Cow: cow",)


def test_splits_follow_the_rule_and_unlabelled_items_stay_in_the_database(archive: ItemArchive) -> None:
    assert [len(archive.select([split])) for split in ("query", "validation", "unseen", "train")] == [2, 1, 2, 6]
    for file in ("science/atom.svg", "tools/only_one.svg"):
        assert by_file(archive, file).split in ("train", "unseen")


def test_a_second_build_gives_the_same_bytes(archive: ItemArchive, tmp_path: Path) -> None:
    write_tree(tmp_path / "svg")
    build_from_folder(tmp_path / "svg", tmp_path / "again.zip", rule=RULE)
    assert (tmp_path / "again.zip").read_bytes() == archive.path.read_bytes()


def test_a_link_out_of_the_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.svg").write_text(svg("Outside"))
    (tmp_path / "svg").mkdir()
    (tmp_path / "svg" / "link.svg").symlink_to(tmp_path / "outside.svg")
    with pytest.raises(ArchiveError, match="pointing outside"):
        build_from_folder(tmp_path / "svg", tmp_path / "a.zip", rule=RULE)


def test_the_series_prefix_of_a_title_is_stripped() -> None:
    assert clean_title("Clipart by Nicu Buculei - book_01") == "book_01"
    assert clean_title("Old clipart by hand - pear") == "Old clipart by hand - pear"


def test_tags_are_lower_case_once_each_and_without_numbers_and_addresses() -> None:
    assert clean_tags(["Ice  Cream", "ice cream", "0x85c", "hash(0x8a3cd28)", "2005", "", "PNG"]) == ("ice_cream",)


@pytest.mark.parametrize("text", ["mail me@here", "see http://here", "HASH(0x85a0ae8)"])
def test_a_description_with_an_address_or_without_words_is_dropped(text: str) -> None:
    assert clean_description(text) == ""


def test_the_group_is_the_first_fourteen_letters() -> None:
    assert group_key("Flag of the 3 Countries, No. 7") == "flagofthecount"
    assert group_key("1234") == ""


def test_a_full_caption_has_each_part_where_there_is_one() -> None:
    assert full_caption("Pie", "", ()) == "Pie"
    assert full_caption("Pie.", "Apple pie.", ("food", "menu")) == "Pie. Apple pie: food, menu"
