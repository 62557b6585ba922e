"""What a worker tells of itself."""

import httpx2
import pytest
import typer

from app.metrics import Metrics
from app.working import telling


def test_a_worker_tells_its_figures_on_loopback(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics()
    metrics.watch_worker("host-1", lambda: 2.5)
    metrics.record_rebuilt(encoded=250, reused=4, skipped=2)
    with telling(metrics, 0):
        url = capsys.readouterr().err.split()[-1]
        assert url.startswith("http://127.0.0.1:")
        text = httpx2.get(url).text
    assert 'worker_beat_age_seconds{worker="host-1"} 2.5' in text
    assert "rebuild_shards_total 1.0" in text
    assert 'rebuild_items_total{outcome="skipped"} 2.0' in text


def test_a_taken_port_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with telling(Metrics(), 0):
        port = int(capsys.readouterr().err.split(":")[-1].split("/")[0])
        with pytest.raises(typer.BadParameter, match="choose another for each worker"), telling(Metrics(), port):
            pytest.fail("two servers on one port")
