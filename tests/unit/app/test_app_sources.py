from pathlib import Path

import pytest
from tiny_home import make_home

from app.jobs import SourceNotFound
from app.sources import data_set, open_source


def test_a_source_is_the_database_of_a_data_set(tmp_path: Path) -> None:
    source = open_source("tiny", make_home(tmp_path, 10) / "data")
    assert [item.order for item in source.items] == [0, 1, 2, 3, 5, 6, 7, 8]


def test_all_takes_every_item(tmp_path: Path) -> None:
    source = open_source("tiny:all", make_home(tmp_path, 10) / "data")
    assert len(source.items) == 10
    assert data_set(source.name) == "tiny"


def test_other_items_give_another_digest(tmp_path: Path) -> None:
    data = make_home(tmp_path, 10) / "data"
    assert open_source("tiny", data).digest == open_source("tiny", data).digest
    assert open_source("tiny", data).digest != open_source("tiny:all", data).digest


@pytest.mark.parametrize("name", ["nothing", "../data/tiny", "", ":all"])
def test_an_unknown_name_lists_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceNotFound, match=r"known: .*tiny"):
        open_source(name, make_home(tmp_path, 1) / "data")
