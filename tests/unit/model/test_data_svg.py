import io
from pathlib import Path

import pytest
from PIL import Image

from model.data import svg
from model.data.svg import read_drawing
from model.errors import ArchiveError

HEAD = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:cc="http://web.resource.org/cc/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/"
 width="20mm" height="10mm" viewBox="0 0 20 10">"""
SQUARE = '<rect width="10" height="10" fill="#800000"/></svg>'
METADATA = """<metadata><rdf:RDF><cc:Work rdf:about="">
<dc:title>Red
  square</dc:title><dc:description>Half &amp; half</dc:description>
<dc:creator><cc:Agent><dc:title>Jane Doe</dc:title></cc:Agent></dc:creator>
<dc:subject><rdf:Bag><rdf:li>Shape</rdf:li><rdf:li>red things</rdf:li></rdf:Bag></dc:subject>
<cc:license rdf:resource="http://web.resource.org/cc/PublicDomain"/></cc:Work></rdf:RDF></metadata>"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "drawing.svg"
    path.write_text(text)
    return path


def test_metadata_is_that_of_the_work_and_not_of_its_creator(tmp_path: Path) -> None:
    metadata = read_drawing(write(tmp_path, HEAD + METADATA + SQUARE)).metadata
    assert metadata.title == "Red square"
    assert metadata.description == "Half & half"
    assert metadata.tags == ["Shape", "red things"]
    assert metadata.licence == "http://web.resource.org/cc/PublicDomain"


def test_a_drawing_without_metadata_has_empty_metadata(tmp_path: Path) -> None:
    metadata = read_drawing(write(tmp_path, HEAD + "<title>not Dublin Core</title>" + SQUARE)).metadata
    assert metadata == svg.SvgMetadata()


def test_a_drawing_in_millimetres_is_rendered_224_pixels_wide_on_white(tmp_path: Path) -> None:
    picture = read_drawing(write(tmp_path, HEAD + SQUARE)).picture
    with Image.open(io.BytesIO(picture.webp)) as image:
        assert image.size == (224, 112)
        assert image.getpixel((200, 50)) == (255, 255, 255)
        assert image.getpixel((20, 50)) == (128, 0, 0)
    assert picture.visible


def test_a_blank_drawing_is_not_visible(tmp_path: Path) -> None:
    assert not read_drawing(write(tmp_path, HEAD + "</svg>")).picture.visible


def test_plain_entities_are_read_and_nested_ones_refused(tmp_path: Path) -> None:
    plain = '<!DOCTYPE svg [<!ENTITY name "Red square">]>'
    titled = HEAD + METADATA.replace("Half &amp; half", "&name;") + SQUARE
    assert read_drawing(write(tmp_path, plain + titled)).metadata.description == "Red square"
    bomb = '<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY name "&a;&a;">]>'
    with pytest.raises(ArchiveError, match="plain-text entities"):
        read_drawing(write(tmp_path, bomb + titled))


def test_external_entities_are_refused(tmp_path: Path) -> None:
    text = '<!DOCTYPE svg [<!ENTITY name SYSTEM "file:///etc/hostname">]>' + HEAD + SQUARE
    with pytest.raises(ArchiveError, match="plain-text entities"):
        read_drawing(write(tmp_path, text))


@pytest.mark.parametrize("text", ["not XML", HEAD, "<html></html>"])
def test_what_is_not_an_svg_drawing_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArchiveError, match=r"drawing\.svg"):
        read_drawing(write(tmp_path, text))


def test_a_file_beyond_the_size_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svg, "MAX_SVG_BYTES", 100)
    with pytest.raises(ArchiveError, match="at most 100 bytes"):
        read_drawing(write(tmp_path, HEAD + SQUARE))
