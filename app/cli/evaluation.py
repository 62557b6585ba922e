"""`crossbit evaluate` and `crossbit evaluate-codes`."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from app.cli.options import DATA_AND_MODELS, AsJson, open_settings
from app.jobs import Skipped
from app.show import note, note_skipped, progress, show_json, show_table

if TYPE_CHECKING:
    from app.settings import Settings
    from model.evaluation.codes import CodeSet
    from model.evaluation.results import Result
    from model.items import ItemArchive

cli = typer.Typer()


@cli.command(rich_help_panel=DATA_AND_MODELS)
def evaluate(
    artifact: Annotated[str, typer.Argument(help="Name of the artifact.")],
    data_set: Annotated[
        str | None, typer.Option("--data", help="Name of the data set; the one it was trained on if left out.")
    ] = None,
    bits: Annotated[list[int] | None, typer.Option(help="Code length; repeatable; 64 if left out.")] = None,
    captions: Annotated[
        str | None, typer.Option(help="Caption variant; if left out the headline one, with the others beside it.")
    ] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Hand the true labels to the encoder, as published: not retrieval.")
    ] = False,
    prompts: Annotated[
        Literal["own", "other", "none"],
        typer.Option(help="Whose labels --oracle hands over: the item's, those of a random other item, or none."),
    ] = "own",
    report: Annotated[bool, typer.Option(help="Write the report to look at, under runs/ARTIFACT/report.")] = True,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval of the test queries, exact under ties, for the whole and for the unseen database."""
    from model.evaluation.codes import evaluated_captions
    from model.evaluation.results import as_json as results_as_json
    from model.evaluation.results import as_table
    from model.items import ItemArchive, find_archive
    from model.manifest import read_manifest

    settings = open_settings()
    folder = settings.artifacts_dir / artifact
    archive = ItemArchive.open(find_archive(data_set or read_manifest(folder).data["name"], settings.data_dir))
    note(f"{archive.info.title}; split {archive.info.split_hash[:12] or 'none'}")
    make_codes = partial(_oracle_codes, prompts) if oracle else _codes
    variants = [captions] if captions else evaluated_captions(archive)
    lengths = list(dict.fromkeys(bits or [64]))
    started = time.perf_counter()
    sets = [codes for variant in variants for codes in make_codes(settings, folder, archive, lengths, variant)]
    evaluated = [(codes, _scored(codes)) for codes in sorted(sets, key=lambda one: lengths.index(one.bits))]
    results = [result for _, result in evaluated]
    if report:
        from model.evaluation.codes import Protocol
        from model.evaluation.report import build_report
        from model.evaluation.report_page import write_report

        seconds = time.perf_counter() - started
        # the report is about codes of content; keywords are no part of an item
        shown = [(codes, result) for codes, result in evaluated if codes.protocol is not Protocol.KEYWORDS]
        with progress("report", len(shown) + 1) as advance:
            made = build_report(shown, archive, read_manifest(folder), seconds, advance)
            page = write_report(made, settings.home / "runs" / artifact / "report")
            advance(1)
        note(f"report: {page}")
    if as_json:
        show_json(results_as_json(results))
        return
    for protocol in dict.fromkeys(result.protocol for result in results):
        show_table(*as_table([result for result in results if result.protocol is protocol]))


@cli.command(rich_help_panel=DATA_AND_MODELS)
def evaluate_codes(
    file: Annotated[Path, typer.Argument(help="A MAT file of version 5 or 7.3, or .npz.")],
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=NAME of a matrix whose name is not a usual one; repeatable. Roles: query_image, query_text, "
            "query_pair, database_image, database_text, database_pair, query_labels, database_labels."
        ),
    ] = None,
    bitorder: Annotated[
        Literal["big", "little"] | None,
        typer.Option(help="Of packed bytes; what the archive says, or little, if left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure retrieval with codes that were made elsewhere, from a file of codes and label matrices."""
    from model.evaluation.code_files import parse_keys, read_codes
    from model.evaluation.report import inspect
    from model.evaluation.results import as_table, one_as_json

    codes = read_codes(file, parse_keys(key) if key else None, bitorder)
    result = _scored(codes)
    if as_json:
        show_json(one_as_json(result))
    else:
        note("codes made elsewhere: nothing here says what their encoder saw, labels included")
        for modality, check in inspect(codes).leaks.items():
            note(check.in_words(f"{modality} codes of {codes.bits} bits"))
        show_table(*as_table([result]))


def _codes(
    settings: "Settings", folder: Path, archive: "ItemArchive", lengths: Sequence[int], captions: str
) -> Iterator["CodeSet"]:
    """Lone codes; the same codes as paired ones where the method fuses; keyword queries where it takes any."""
    from model.artifact import load_hashers
    from model.evaluation.codes import encode_lengths, evaluated_items
    from model.evaluation.keywords import keyword_codes
    from model.hasher import KeywordHasher, Modality

    hashers = load_hashers(folder, lengths, settings.device, settings.home / "cache")
    total = sum(map(len, evaluated_items(archive, captions)))
    with progress(f"codes of {', '.join(map(str, lengths))} bits, {captions} captions", total) as advance:
        sets = encode_lengths(hashers, archive, captions=captions, advance=advance)
    _note_skipped(sets[0])
    names = archive.info.class_names
    for hasher, codes in zip(hashers, sets, strict=True):
        yield codes
        if Modality.PAIR in hasher.modalities:
            yield codes.paired()
        if isinstance(hasher, KeywordHasher) and set(hasher.keywords) & set(names):
            yield keyword_codes(hasher, codes, names)


def _oracle_codes(
    prompts: str, settings: "Settings", folder: Path, archive: "ItemArchive", lengths: Sequence[int], captions: str
) -> Iterator["CodeSet"]:
    from model.evaluation.codes import evaluated_items
    from model.evaluation.oracle import WHY, Prompts, encode_oracle_codes, load_oracle

    encoders = {bits: load_oracle(folder, bits, settings.device, settings.home / "cache") for bits in lengths}
    note(WHY)
    total = sum(map(len, evaluated_items(archive, captions)))
    for bits, encoder in encoders.items():
        with progress(f"oracle codes of {bits} bits, {captions} captions", total) as advance:
            codes = encode_oracle_codes(encoder, archive, captions=captions, prompts=Prompts(prompts), advance=advance)
        _note_skipped(codes)
        yield codes


def _scored(codes: "CodeSet") -> "Result":
    from model.evaluation.results import evaluate_codes, rankings

    with progress(f"{codes.protocol} rankings", rankings(codes)) as advance:
        return evaluate_codes(codes, advance)


def _note_skipped(codes: "CodeSet") -> None:
    note_skipped([Skipped(one.id, one.reason) for one in codes.skipped])
