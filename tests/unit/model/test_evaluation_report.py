"""The report on fake codes of real items: self-contained, escaped, the same bytes again, alarms on top."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from model.evaluation.codes import CodeSet, Protocol, encode_codes
from model.evaluation.contact_sheets import HITS, QUERIES, contact_sheets
from model.evaluation.label_only import fit_label_coder
from model.evaluation.report import Report, build_report, inspect, report_files
from model.evaluation.report_page import report_page, write_report
from model.evaluation.results import evaluate_codes
from model.fake import FakeHasher
from model.hasher import Modality
from model.items import ItemArchive
from model.manifest import Manifest

HOSTILE = "<script>alert(1)</script>"


def manifest(name: str = "demo") -> Manifest:
    return Manifest(
        name=name,
        method="baseline",
        config={"bits": [16, 64]},
        backbone="towers",
        image_dim=8,
        text_dim=8,
        fingerprints={"16": "aa" * 32, "64": "bb" * 32},
        licences={},
        data={"name": "drawings", "captions": "title", "train": 100, "validation": 20},
        training={"recipe": "seed = 4\n", "supervision": "labels", "device": "cpu", "seconds": 12.5},
    )


@pytest.fixture(scope="module")
def code_sets(archive: ItemArchive) -> list[CodeSet]:
    return [encode_codes(FakeHasher(bits), archive) for bits in (16, 64)]


@pytest.fixture(scope="module")
def report(archive: ItemArchive, code_sets: list[CodeSet]) -> Report:
    return build_report([(codes, evaluate_codes(codes)) for codes in code_sets], archive, manifest(), 3.0)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return report_page(report)


class Tags(HTMLParser):
    """Every address in a page, and whether its elements are closed in order."""

    VOID = frozenset({"meta", "img", "path", "use", "rect", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_needs_nothing_beside_itself(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert [one for one in tags.addresses if not one.startswith(("#", "data:image/"))] == []
    assert "url(http" not in page
    assert "<script" not in page


def test_equal_code_sets_give_equal_bytes(report: Report, page: str) -> None:
    assert report_page(report) == page


def test_names_and_texts_are_escaped(report: Report) -> None:
    sheet = report.sheets["text_to_image"][0]
    hostile = replace(sheet, query=replace(sheet.query, id=HOSTILE, text=HOSTILE, labels=(HOSTILE,)))
    shown = report_page(replace(report, title=HOSTILE, facts={HOSTILE: HOSTILE}, sheets={"text_to_image": [hostile]}))
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 5


def test_the_protocol_block_says_how_the_figures_came_about(page: str, archive: ItemArchive) -> None:
    for fact in (archive.info.split_hash, "share at least one label", "towers", "bb" * 32, "12.5 s", "cores", "3.0 s"):
        assert fact in page
    assert re.search(r"<th>training seed</th><td>4</td>", page)


def test_a_verdict_on_leaks_stands_above_every_figure(page: str, report: Report) -> None:
    assert page.index('class="banner') < page.index('class="card')
    assert "eak" in page[page.index('class="banner') :][:120]


def labelled(codes: CodeSet) -> CodeSet:
    """The same items with three coarse labels, so that their sets are large, and codes made from those."""
    coarse = [
        np.stack([side[:, part::3].any(1) for part in range(3)], 1)
        for side in (codes.query_labels, codes.database_labels)
    ]
    codes = replace(codes, query_labels=coarse[0], database_labels=coarse[1])
    coder = fit_label_coder(codes.database_labels, codes.bits)
    both = (Modality.IMAGE, Modality.TEXT)
    return replace(
        codes,
        queries=dict.fromkeys(both, coder.encode(codes.query_labels)),
        database=dict.fromkeys(both, coder.encode(codes.database_labels)),
    )


def test_codes_made_from_labels_set_the_alarm_off(archive: ItemArchive, code_sets: list[CodeSet]) -> None:
    leaked = labelled(code_sets[1])
    shown = report_page(build_report([(leaked, evaluate_codes(leaked))], archive, manifest(), 1.0))
    assert '<p class="banner alarm">LEAK ALARM for image codes of 64 bits' in shown
    assert '<p class="banner ok">' not in shown


def test_an_oracle_says_that_it_is_no_retrieval_result(archive: ItemArchive, code_sets: list[CodeSet]) -> None:
    oracle = replace(code_sets[0], protocol=Protocol.ORACLE)
    found = build_report([(oracle, evaluate_codes(oracle))], archive, manifest(), 1.0)
    assert "this is not a retrieval result" in found.facts["protocol"]


@pytest.mark.parametrize("unseen", [False, True])
def test_without_a_known_and_an_unseen_part_queries_are_compared_with_the_whole_database(
    code_sets: list[CodeSet], *, unseen: bool
) -> None:
    codes = replace(labelled(code_sets[1]), unseen=np.full_like(code_sets[1].unseen, unseen))
    check = inspect(codes).leaks[Modality.IMAGE]
    assert check.alarm
    assert check.items <= len(codes.query_ids)


def test_sheets_show_the_nearest_items_and_whether_they_are_relevant(
    archive: ItemArchive, code_sets: list[CodeSet]
) -> None:
    codes = code_sets[1]
    for direction, (source, target) in codes.directions.items():
        sheets = contact_sheets(codes, archive, direction)
        assert 0 < len(sheets) <= QUERIES
        for sheet in sheets:
            row = codes.query_ids.index(sheet.query.id)
            every = np.bitwise_count(codes.queries[source][row] ^ codes.database[target]).sum(1)
            assert [hit.distance for hit in sheet.hits] == sorted(every.tolist())[:HITS]
            for hit in sheet.hits:
                assert every[codes.database_ids.index(hit.item.id)] == hit.distance
                assert hit.relevant == bool(set(sheet.query.labels) & set(hit.item.labels))
                assert bool(hit.item.picture) == (target is Modality.IMAGE)


def test_the_files_hold_what_the_page_shows(report: Report) -> None:
    files = report_files(report)
    raw = json.loads(files["report.json"])
    figures = raw["figures"]["lone"]["image_to_text"]["64"]
    lines = list(csv.DictReader(io.StringIO(files["metrics.csv"])))
    found = next(
        line["value"]
        for line in lines
        if (line["direction"], line["bits"], line["database"]) == ("image_to_text", "64", "all")
        and (line["metric"], line["at"]) == ("map_all", "expected")
    )
    assert float(found) == figures["map_all"]["expected"]
    assert {one["bits"] for one in raw["diagnostics"]} == {16, 64}
    assert len(list(csv.reader(io.StringIO(files["sheets.csv"])))) == 1 + sum(
        len(sheet.hits) for sheets in report.sheets.values() for sheet in sheets
    )
    assert len(list(csv.reader(io.StringIO(files["diagnostics.csv"])))) == 1 + 2 * (16 + 64)


def test_writing_leaves_page_json_and_csv(report: Report, tmp_path: Path) -> None:
    path = write_report(report, tmp_path / "report")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    names = ["diagnostics.csv", "index.html", "metrics.csv", "report.json", "sheets.csv"]
    assert sorted(one.name for one in path.parent.iterdir()) == names
