"""How often the leak alarm is wrong: ``python benchmarks/leak_alarm.py ARTIFACT... [--artifacts FOLDER] [--halves N]``.

Each artifact is encoded at every length and caption variant; the alarm is asked for all unseen items (queries and
unseen database) and for random halves of them. None of these codes saw a label of an unseen item, so every alarm is
false. Codes of the label-only control are asked the same way: there every silence is wrong.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from model.artifact import load_hasher
from model.evaluation.codes import CodeSet, encode_codes, evaluated_captions
from model.evaluation.label_only import fit_label_coder
from model.evaluation.leak import LeakCheck, check_leak
from model.hasher import Modality
from model.items import ItemArchive, find_archive
from model.manifest import read_manifest

Codes = NDArray[np.uint8]


def checks(codes: CodeSet, database: Codes, queries: Codes, halves: int) -> Iterator[LeakCheck]:
    """For all unseen items, then for random halves."""
    known = ~codes.unseen
    unseen = np.concatenate([database[~known], queries])
    labels = np.concatenate([codes.database_labels[~known], codes.query_labels])
    everything = np.arange(len(unseen))
    generator = np.random.default_rng(0)
    parts = [everything, *(generator.permutation(everything)[: len(unseen) // 2] for _ in range(halves))]
    for rows in parts:
        yield check_leak(database[known], codes.database_labels[known], unseen[rows], labels[rows])


def main() -> None:
    """Print a row for each caption variant and modality, and one for the control."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--home", type=Path, default=Path("var"))
    parser.add_argument("--artifacts", type=Path, help="folder of the artifacts; HOME/artifacts if left out")
    parser.add_argument("--halves", type=int, default=50)
    parser.add_argument("--bits", type=int, nargs="+", default=[16, 32, 64])
    options = parser.parse_args()
    artifacts = options.artifacts or options.home / "artifacts"
    data = read_manifest(artifacts / options.names[0]).data["name"]
    archive = ItemArchive.open(find_archive(data, options.home / "data"))
    found: dict[str, list[LeakCheck]] = {}
    runs = [
        (name, bits, captions)
        for name in options.names
        for bits in options.bits
        for captions in evaluated_captions(archive)
    ]
    for name, bits, captions in track(runs, console=Console(stderr=True)):
        hasher = load_hasher(artifacts / name, bits, cache_dir=options.home / "cache")
        codes = encode_codes(hasher, archive, captions=captions)
        for modality in (Modality.IMAGE, Modality.TEXT):
            row = found.setdefault(f"{modality} codes, {captions} captions", [])
            row += checks(codes, codes.database[modality], codes.queries[modality], options.halves)
        coder = fit_label_coder(codes.database_labels[~codes.unseen], bits)
        sides = coder.encode(codes.database_labels), coder.encode(codes.query_labels)
        found.setdefault("label-only (must sound)", []).extend(checks(codes, *sides, options.halves))
    table = Table("codes", "checks", "alarms", "agreement, mean", "agreement, highest", "threshold, lowest")
    for what, some in sorted(found.items()):
        agreement = [one.agreement for one in some]
        alarms = sum(one.alarm for one in some)
        table.add_row(
            what,
            str(len(some)),
            f"{alarms} ({alarms / len(some):.1%})",
            f"{np.mean(agreement):.3f}",
            f"{max(agreement):.3f}",
            f"{min(one.threshold for one in some):.3f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
