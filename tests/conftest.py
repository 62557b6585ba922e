"""What every test stands on: no hub, one thread, small real data."""

import os
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for a hub fails at once instead of retrying
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from model.items import ItemArchive

# a busy machine may stop a test for a second at any point: neither a slow example nor slow drawing is a finding
settings.register_profile("crossbit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crossbit")

# a shell without job control starts background work with Ctrl-C ignored, and children would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

FIXTURE = Path(__file__).parent / "fixtures" / "openclipart-200.zip"


@pytest.fixture(scope="session")
def archive() -> ItemArchive:
    """200 items of the default data set, every split and every label among them."""
    return ItemArchive.open(FIXTURE)


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of features for trainings over the real towers: each picture goes through them once."""
    return tmp_path_factory.mktemp("features")
