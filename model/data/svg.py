"""One SVG file: its Dublin Core metadata, and its picture.

Metadata is read with expat, which never opens another file or address; internal entities are accepted only where
their value is plain text (drawing programs declare namespaces that way), so they cannot expand into each other.
"""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import numpy as np
import resvg_py
from PIL import Image

from model.errors import ArchiveError

MAX_SVG_BYTES = 8 * 2**20
RENDER_WIDTH = 224
_WEBP_QUALITY = 85
_VISIBLE_DEVIATION = 2.5  # of 255; below it nothing can be seen on the white ground


@dataclass(slots=True)
class SvgMetadata:
    """What the file says about itself; each text has single spaces, and is empty where it is missing."""

    title: str = ""
    description: str = ""
    licence: str = ""  # address of the declared licence
    tags: list[str] = field(default_factory=list)  # as written, in file order


@dataclass(frozen=True, slots=True)
class Picture:
    """A rendered drawing, 224 pixels wide on white."""

    pixels: str  # SHA-256 (hex) of size and RGB pixels
    visible: bool
    webp: bytes


@dataclass(frozen=True, slots=True)
class Drawing:
    """One SVG file, read and rendered."""

    content: str  # SHA-256 (hex) of the file
    metadata: SvgMetadata
    picture: Picture


def read_drawing(path: Path) -> Drawing:
    """Read and render one file.

    Raises:
        ArchiveError: the file is too large, cannot be drawn, is not XML, or declares entities beyond plain text.
    """
    size = path.stat().st_size
    if size > MAX_SVG_BYTES:
        raise ArchiveError(f"expected an SVG file of at most {MAX_SVG_BYTES:,} bytes, found {size:,} in {path.name}")
    data = path.read_bytes()
    try:
        metadata = _MetadataReader(path.name).read(data)
        return Drawing(hashlib.sha256(data).hexdigest(), metadata, _render(path))
    except (expat.ExpatError, ValueError) as error:
        raise ArchiveError(f"expected an SVG drawing in {path.name}, but it cannot be read: {error}") from error


def _render(path: Path) -> Picture:
    # without system fonts, so that the machine's fonts change nothing; without dpi=96, lengths in units are refused
    png = resvg_py.svg_to_bytes(
        svg_path=str(path), width=RENDER_WIDTH, background="#ffffff", dpi=96, skip_system_fonts=True
    )
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        rgb = image.convert("RGB")
    digest = hashlib.sha256(b"%dx%d:" % rgb.size + rgb.tobytes()).hexdigest()
    return Picture(digest, bool(np.asarray(rgb).std() >= _VISIBLE_DEVIATION), _webp(rgb))


def _webp(image: Image.Image) -> bytes:
    """The smaller of the lossless and the lossy file: flat drawings are smaller without loss."""
    files = []
    for options in ({"lossless": True, "method": 4}, {"quality": _WEBP_QUALITY, "method": 6}):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", **options)
        files.append(buffer.getvalue())
    return min(files, key=len)


class _MetadataReader:
    """Collects text below ``metadata/…/Work``; element names are compared without their namespace."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._path: list[str] = []
        self._text: list[str] = []
        self._found = SvgMetadata()

    def read(self, data: bytes) -> SvgMetadata:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.EntityDeclHandler = self._entity
        parser.Parse(data, True)
        return self._found

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag.rpartition(" ")[2])
        self._text.clear()
        if self._below_work() == ["license"] and not self._found.licence:
            self._found.licence = next((value for name, value in attributes.items() if name.endswith("resource")), "")

    def _end(self, tag: str) -> None:
        text = " ".join("".join(self._text).split())
        match self._below_work():
            case ["title"]:
                self._found.title = self._found.title or text
            case ["description"]:
                self._found.description = self._found.description or text
            case ["subject", *_, "li"]:
                self._found.tags.append(text)
        self._path.pop()
        self._text.clear()

    def _below_work(self) -> list[str]:
        if "metadata" not in self._path or "Work" not in self._path:
            return []
        return self._path[self._path.index("Work") + 1 :]

    def _entity(
        self,
        name: str,
        is_parameter: bool,
        value: str | None,
        base: str | None,
        system_id: str | None,
        public_id: str | None,
        notation: str | None,
    ) -> None:
        if value is None or "&" in value or "%" in value:
            raise ArchiveError(f"expected only plain-text entities in {self._name}, found {name!r}; leave the file out")
