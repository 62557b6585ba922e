"""What every test stands on: no hub, one thread, small real data."""

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for a hub fails at once instead of retrying
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from model.items import ItemArchive

# a busy machine may stop a test for a second at any point: neither a slow example nor slow drawing is a finding
settings.register_profile("crossbit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crossbit")


def pytest_configure(config: pytest.Config) -> None:
    """Fewer examples where each has to wait for a Milvus server."""
    wanted = config.getoption("markexpr")
    if "milvus" in wanted and "not milvus" not in wanted:
        settings.register_profile("milvus", settings.get_profile("crossbit"), max_examples=25)
        settings.load_profile("milvus")


# a shell without job control starts background work with Ctrl-C ignored, and children would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

FIXTURE = Path(__file__).parent / "fixtures" / "openclipart-200.zip"


@pytest.fixture(scope="session", autouse=True)
def milvus_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Milvus server, which runs where a test with the marker ``milvus`` was selected; else empty."""
    if not any(item.get_closest_marker("milvus") for item in request.session.items):
        yield ""
        return
    from milvus_server import Refilled, refilled, running

    own = os.environ.get("CROSSBIT_TEST_MILVUS")  # address of a server to test instead, of another version perhaps
    with nullcontext(own) if own else running(tmp_path_factory.mktemp("milvus")) as url:
        refilled.append(Refilled(url))
        yield url


@pytest.fixture(scope="session")
def archive() -> ItemArchive:
    """200 items of the default data set, every split and every label among them."""
    return ItemArchive.open(FIXTURE)


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of features for trainings over the real towers: each picture goes through them once."""
    return tmp_path_factory.mktemp("features")
