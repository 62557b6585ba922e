"""The default data set: public-domain drawings with titles, from Debian's package of the Open Clip Art Library.

``openclipart.md`` beside this file is the data set's card; ``openclipart.zip`` is what ``build`` wrote.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import Progress

from model.data.archive import write_archive
from model.data.dataset import DataSet
from model.data.debian import DebianPackage, unpack
from model.data.records import words_of_file
from model.data.splits import Member, SplitRule, assign_splits, seeded_order, split_hash
from model.data.svg import Drawing, read_drawing
from model.errors import ArchiveError
from model.items import ArchiveInfo, Item

PACKAGE = DebianPackage(
    name="openclipart-svg",
    version="1:0.18+dfsg-19",
    sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
)
SVG_FOLDER = Path("usr/share/openclipart/svg")
CAPTIONS = ("title", "full")
LABEL_WORDS: dict[str, str] = {  # in column order
    "animal": "animals animal mammal mammals bird birds insect bugs fish dinosaur dinosaurs "
    "amphibian reptile penguin dog cat horse bear housecats big_cats dogs bears horses",
    "mammal": "mammal mammals dog cat horse bear housecats big_cats dogs bears horses cow pig mouse rabbit tiger lion",
    "plant": "plants plant tree trees flower flowers leaf evergreen rose",
    "food": "food fruit dairy beverages alcohol vegetables breads_and_carbs desserts "
    "meats_and_eggs menu beverage dessert vegetable protein carbohydrate icecream",
    "fruit_veg": "fruit vegetables vegetable apple pear banana cherry tomato lemon orange strawberry",
    "dessert": "dessert desserts icecream cake candy sweet",
    "people": "people person man woman boy girl stickmen stickman stick_man bodypart smilies smiley face child",
    "clothing": "clothing hat hats jewelry shirt shoe",
    "sport": "sports sport yoga football soccer ball ski",
    "music": "music musicstuff guitar instrument note",
    "holiday": "holiday festive christmas easter thanksgiving valentines party birthday halloween balloon",
    "game_toy": "games game cards card chess dice toys toy entertainment fun",
    "playing_card": "cards card",
    "transport": "transportation transport vehicle vehicles boat boating "
    "car bus train airplane truck sailing roadtravel",
    "watercraft": "boat boating sailing ship navy",
    "road_sign": "roadsigns roadsign hazard warning caution",
    "flag": "flag flags signalflag",
    "map": "map maps map_symbols mapsym map_symbol coastline geography",
    "europe": "europe france spain germany italy united_kingdom poland",
    "americas": "america north_america south_america latin_america caribbean united_states unitedstates canada states",
    "asia": "asia japan china india",
    "africa": "africa",
    "oceania": "oceania australia",
    "weather_sky": "weather cloud sun moon lightning astronomy space star rain snow planet",
    "building": "buildings building homes house home furniture city church hotel",
    "tool_weapon": "tools tool weapons weapon gun bullet bullethole hammer knife",
    "office_edu": "office education books book work study telephone pen pencil paper mail",
    "electronics": "computer hardware electronics network networksym device tv "
    "satellite dvb voip battery bulb led internet webpage",
    "symbol": "symbol aiga-symbols led symbols disability money awards religion christianity",
}

DROPPED_FOLDERS = ("special", "unsorted", "buttons", "logos", "shapes", "computer/icons", "computer/buttons")
DROPPED_TAGS = frozenset(
    {  # and numbers, and addresses of objects
        "hash",
        "unsorted",
        "magick",
        "openclipart",
        "clip_art",
        "clipart",
        "ea",
        "svg",
        "externalsource",
        "shape",
        "simple",
        "white",
        "theme",
        "lemon_theme_icon",
        "special",
        "stock",
        "vector",
        "image",
        "png",
        "inkscape",
    }
)
SPLIT = SplitRule(seed=1814, query=500, validation=300, unseen=700, max_query_group=6)
EXPECTED_COUNTS: Mapping[str, int] = {
    "items": 3476,
    "train": 1976,
    "query": 500,
    "validation": 300,
    "unseen": 700,
    "animal": 290,
    "mammal": 120,
    "plant": 82,
    "food": 338,
    "fruit_veg": 106,
    "dessert": 70,
    "people": 384,
    "clothing": 63,
    "sport": 74,
    "music": 73,
    "holiday": 109,
    "game_toy": 324,
    "playing_card": 240,
    "transport": 301,
    "watercraft": 76,
    "road_sign": 91,
    "flag": 532,
    "map": 314,
    "europe": 199,
    "americas": 128,
    "asia": 68,
    "africa": 66,
    "oceania": 75,
    "weather_sky": 87,
    "building": 76,
    "tool_weapon": 150,
    "office_edu": 208,
    "electronics": 314,
    "symbol": 407,
}
NOTES: Mapping[str, object] = {
    "audit": "openclipart-audit.csv: 200 seeded image-label pairs judged by eye",
    "audited_pairs": 200,
    "audited_wrong": 22,  # 11.0 %
    "audited_loose": 20,  # true of the picture's series or use only
    "caption_warning": "full contains label words: never a headline, a bar or a ranking",
}
_CLIPART_BY = re.compile(r"clipart by .+? - ", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rule:
    """The numbers that decide what is kept and how it is split; the defaults are the data set's own."""

    min_label_images: int = 60
    repeated_title: int = 8  # a title on this many images or more says nothing about any of them
    split: SplitRule = SPLIT


@dataclass(frozen=True, slots=True)
class Source:
    """One kept file, with the folders of all its names."""

    file: str  # its own path below the package's folder
    folders: tuple[str, ...]
    drawing: Drawing


def build(folder: Path, *, source: Path | None, images: Path | None, progress: Progress) -> Path:
    """Write the archive from the Debian package, which is downloaded with apt where no file is given.

    Raises:
        ArchiveError: a Debian tool is missing, or the package is not the expected one.
    """
    if images is not None:
        raise ArchiveError("--images: openclipart takes none, its package holds the images")
    path = folder / "archive.zip"
    with TemporaryDirectory() as directory:
        root = unpack(PACKAGE, Path(directory), source) / SVG_FOLDER
        build_from_folder(root, path, progress=progress)
    return path


DATA_SET = DataSet("openclipart", build, lambda _: EXPECTED_COUNTS)


def build_from_folder(root: Path, path: Path, *, rule: Rule | None = None, progress: Progress | None = None) -> None:
    """Write the archive from an unpacked tree of SVG files."""
    rule = rule or Rule()
    sources = read_sources(root, progress or Progress(disable=True))
    items = make_items(sources, rule)
    images = {item.id: source.drawing.picture.webp for item, source in zip(items, sources, strict=True)}
    write_archive(path, describe(items, rule), items, lambda item: images[item.id])


def read_sources(root: Path, progress: Progress) -> list[Source]:
    """Read the files to keep, in path order: visible, public domain, and the first of those with equal pixels."""
    names = _kept_names(root)
    files = sorted(names)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        drawings = pool.map(read_drawing, [root / file for file in files], chunksize=16)
        tracked = progress.track(zip(files, drawings, strict=True), total=len(files), description="drawing")
        sources = [Source(file, names[file], drawing) for file, drawing in tracked]
    return list(_distinct(source for source in sources if _usable(source.drawing)))


def make_items(sources: Sequence[Source], rule: Rule) -> list[Item]:
    """Titles, captions, labels, groups and splits of the kept files, one item each, in the same order."""
    titles = _titles(sources, rule.repeated_title)
    tags = [clean_tags(source.drawing.metadata.tags) for source in sources]
    labels = _labels(sources, tags, rule.min_label_images)
    ids = [source.drawing.content[:16] for source in sources]
    groups = [group_key(title) or item_id for title, item_id in zip(titles, ids, strict=True)]
    members = [Member(*row) for row in zip(ids, groups, map(bool, labels), strict=True)]
    splits = assign_splits(members, rule.split)
    order = {item_id: position for position, item_id in enumerate(seeded_order(ids, rule.split.seed))}
    items = []
    for index, source in enumerate(sources):
        # a few titles hold HTML entities; groups keep the file's spelling, so that the split never moves
        title = html.unescape(titles[index])
        item_id, words = ids[index], [tag.replace("_", " ") for tag in tags[index]]
        description = html.unescape(clean_description(source.drawing.metadata.description))
        items.append(
            Item(
                id=item_id,
                image=f"images/{item_id}.webp",
                texts={"title": (title,), "full": (full_caption(title, description, words),)},
                labels=labels[index],
                group=groups[index],
                split=splits[item_id],
                order=order[item_id],
                metadata={
                    "title": title,
                    **({"description": description} if description else {}),
                    "tags": words,
                    "labels": list(labels[index]),
                    "folders": list(source.folders),
                    "file": source.file,
                },
            )
        )
    return items


def describe(items: Sequence[Item], rule: Rule) -> ArchiveInfo:
    """The archive's description; the class names are those that an item carries, in column order."""
    used = {label for item in items for label in item.labels}
    return ArchiveInfo(
        name="openclipart",
        title="Open Clip Art Library 0.18, public-domain drawings",
        source=f"Debian package {PACKAGE.name}, SHA-256 {PACKAGE.sha256}",
        revision=PACKAGE.version,
        licence="public domain",
        captions=CAPTIONS,
        class_names=tuple(name for name in LABEL_WORDS if name in used),
        split_seed=rule.split.seed,
        split_hash=split_hash({item.id: item.split for item in items}),
        notes=NOTES,
    )


def clean_title(title: str) -> str:
    """The title without the series' "Clipart by NAME - "."""
    return _CLIPART_BY.sub("", title, count=1) if _CLIPART_BY.match(title) else title


def clean_description(description: str) -> str:
    """The description, or nothing where it holds an address or a Perl object that the library printed by mistake."""
    dropped = "@" in description or "http" in description or description.lower().startswith("hash(0x")
    return "" if dropped else description


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags in lower case with underscores for spaces, without junk and repeats, in file order."""
    names = ("_".join(tag.lower().split()) for tag in tags)
    return tuple(dict.fromkeys(name for name in names if name and not _is_junk(name)))


def group_key(title: str) -> str:
    """The first 14 letters of the title: near-duplicates of one series share them."""
    return "".join(letter for letter in title.lower() if letter.isalpha())[:14]


def full_caption(title: str, description: str, tags: Sequence[str]) -> str:
    """``title. description: tag, tag``, each part where there is one."""
    text = f"{title.rstrip('.')}. {description.rstrip('.')}" if description else title
    return f"{text}: {', '.join(tags)}" if tags else text


def _is_junk(tag: str) -> bool:
    # "hash(0x8a3cd28)": a Perl object printed by the library's own upload form
    return tag in DROPPED_TAGS or tag.startswith(("0x", "hash(0x")) or tag.isdecimal()


def _kept_names(root: Path) -> dict[str, tuple[str, ...]]:
    """Real file -> the kept folders that it is in, by its own name or by a link."""
    real_root = root.resolve(strict=True)
    folders: dict[str, set[str]] = {}
    for name in root.rglob("*.svg"):
        folder = name.parent.relative_to(root).as_posix()
        if any(f"{folder}/".startswith(f"{dropped}/") for dropped in DROPPED_FOLDERS):
            continue
        file = name.resolve(strict=True)
        if not file.is_relative_to(real_root):
            raise ArchiveError(f"expected links inside {root.name} only, found {name.name} pointing outside")
        folders.setdefault(file.relative_to(real_root).as_posix(), set()).add(folder)
    return {file: tuple(sorted(names)) for file, names in folders.items()}


def _usable(drawing: Drawing) -> bool:
    licence = drawing.metadata.licence.lower()
    return drawing.picture.visible and (not licence or "publicdomain" in licence)


def _distinct(sources: Iterable[Source]) -> Iterable[Source]:
    seen: set[str] = set()
    for source in sources:
        pixels = source.drawing.picture.pixels
        if pixels not in seen:
            seen.add(pixels)
            yield source


def _titles(sources: Sequence[Source], repeated: int) -> list[str]:
    titles = [clean_title(source.drawing.metadata.title) for source in sources]
    counts = Counter(title.lower() for title in titles)
    return [
        title if title and counts[title.lower()] < repeated else words_of_file(Path(source.file).stem)
        for title, source in zip(titles, sources, strict=True)
    ]


def _labels(sources: Sequence[Source], tags: Sequence[tuple[str, ...]], min_images: int) -> list[tuple[str, ...]]:
    lists = {label: frozenset(words.split()) for label, words in LABEL_WORDS.items()}
    found = []
    for source, names in zip(sources, tags, strict=True):
        words = {part for folder in source.folders for part in folder.split("/")}.union(names)
        found.append([label for label, listed in lists.items() if not listed.isdisjoint(words)])
    counts = Counter(label for labels in found for label in labels)
    return [tuple(label for label in labels if counts[label] >= min_images) for labels in found]
