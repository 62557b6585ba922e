import sys
from pathlib import Path

import pytest

from app.doctor import Level, _check_milvus
from app.engines import Engines
from app.failures import ExtraMissing
from app.settings import Settings
from index.errors import EngineUnavailable


def test_single_indexes_may_have_engines_of_their_own() -> None:
    engines = Engines(Settings(engine="faiss", engines={"photos": "numpy"}))
    assert (engines.of("photos"), engines.of("texts")) == ("numpy", "faiss")


def test_milvus_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "index.milvus.server", raising=False)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'crossbit\[milvus\]'"):
        Engines(Settings(engine="milvus")).of("photos")


def test_the_token_comes_from_its_file_before_the_setting(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("user:password\n", encoding="utf-8")
    settings = Settings(engine="milvus", milvus={"token": "another", "token_file": tmp_path / "token"})
    assert Engines(settings).milvus.options.token == "user:password"  # noqa: S105 - not a secret


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = Settings(engine="milvus", milvus={"token_file": tmp_path / "token"})
    with pytest.raises(EngineUnavailable, match=r"TOKEN_FILE: cannot read .*token: No such file"):
        Engines(settings).of("photos")


def test_the_doctor_says_that_milvus_does_not_answer() -> None:
    settings = Settings(engines={"photos": "milvus"}, milvus={"url": "http://127.0.0.1:1", "timeout_s": 0.1})
    (found,) = _check_milvus(settings)
    assert found.level is Level.FAIL
    assert "expected Milvus at http://127.0.0.1:1" in found.found
