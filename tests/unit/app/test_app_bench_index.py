import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from app.bench.codes import Kind, draw_codes
from app.bench.engines import Contender, check
from app.bench.index import bench_index, plot
from app.cli import cli

COLUMNS = {
    "engine",
    "n",
    "bits",
    "kind",
    "mode",
    "threads",
    "per_s",
    "ratio_to_faiss",
    "share_of_ceiling",
    "bytes_per_item",
}


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.bench.index.ROUNDS", 1)
    monkeypatch.setattr("app.bench.index.BATCH_S", 0.01)
    monkeypatch.setattr("app.bench.index.SINGLE_S", 0.01)


def test_the_same_seed_draws_the_same_codes() -> None:
    one, other = (draw_codes(Kind.LEARNED, 500, 32, 5) for _ in range(2))
    assert np.array_equal(one.database, other.database)
    assert np.array_equal(one.queries, other.queries)
    assert not np.array_equal(one.database, draw_codes(Kind.LEARNED, 500, 32, 6).database)


def test_learned_codes_repeat_and_collapsed_ones_repeat_more() -> None:
    distinct = [len(np.unique(draw_codes(kind, 4000, 32, 0).database, axis=0)) for kind in list(Kind)[:3]]
    assert distinct[0] == 4000
    assert distinct[0] > distinct[1] > distinct[2]


def test_every_engine_has_a_row_in_both_modes_and_the_best_faiss_is_one(tmp_path: Path) -> None:
    measured = bench_index(draw_codes(Kind.LEARNED, 600, 64, 0))
    rows = measured["rows"]
    assert all(row.keys() == COLUMNS for row in rows)
    for mode in ("batch", "single"):
        ratios = {row["engine"]: row["ratio_to_faiss"] for row in rows if row["mode"] == mode}
        assert {"crossbit", "usearch", "numpy", "faiss none"} <= ratios.keys()
        assert max(ratio for name, ratio in ratios.items() if name.startswith("faiss")) == 1
    plot(measured, tmp_path / "ratios.svg")
    assert "<svg" in (tmp_path / "ratios.svg").read_text()


def test_the_command_reads_codes_of_a_file(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(0, 256, (300, 2), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", codes=codes)
    result = CliRunner().invoke(cli, ["bench", "index", "--codes", str(tmp_path / "own.npz"), "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert {(row["n"], row["bits"], row["kind"]) for row in rows} == {(300, 16, "file")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bits", "12"], "multiple of 8"),
        (["--kind", "file"], "random, learned, collapsed"),
        (["--codes", "nowhere.npz"], "expected an .npz file"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["bench", "index", *options])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_a_wrong_answer_ends_the_measurement() -> None:
    codes = draw_codes(Kind.RANDOM, 100, 16, 0)
    wrong = Contender("wrong", lambda queries, k: (np.zeros((len(queries), k), np.int64), None), 0.0)
    with pytest.raises(AssertionError, match="wrong gives other distances"):
        check(wrong, codes.database, codes.queries[:1], 5)
