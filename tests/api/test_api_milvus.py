"""A service whose index is searched in a real Milvus server, beside one that searches in its process."""

import uuid

import pytest
from api_home import Home, Serve, wait_until

from index.editing import editing

pytestmark = pytest.mark.milvus

QUESTIONS: list[dict[str, object]] = [
    {"query": "a red square"},
    {"query": "a red square", "target": "text", "limit": 3},
    {"query": "a blue square", "filter": {"warm": True}},
    {"query": "a blue square", "radius": 40, "limit": 2},
]


def test_a_service_answers_from_milvus_as_it_does_embedded(home: Home, serve: Serve, milvus_url: str) -> None:
    with editing(home.path / "indexes" / "colors") as editor:
        editor.delete(["green/01"])
    near = serve()
    server = {"url": milvus_url, "prefix": f"t{uuid.uuid4().hex[:12]}"}
    far = serve(ready=False, engines={"colors": "milvus"}, milvus=server)
    wait_until(lambda: far.get("/readyz").status_code == 200, seconds=120)
    for question in QUESTIONS:
        asked = question | {"explain": True}
        answers = [client.post("/v1/search/text", json=asked).json() for client in (near, far)]
        plans = [answer.pop("plan") for answer in answers]
        assert [plan["engine"] for plan in plans] == ["kernel", "milvus"]
        for name in ("hits", "total_within_radius", "truncated", "next_cursor"):
            assert answers[1].get(name) == answers[0].get(name)
        assert answers[0]["hits"]


def test_a_service_whose_milvus_is_away_says_so_and_serves_once_it_is_back(
    home: Home, serve: Serve, milvus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from index.errors import EngineUnavailable
    from index.milvus.server import MilvusServer

    opened = MilvusServer.open

    def away(*_: object) -> None:
        raise EngineUnavailable("away")

    monkeypatch.setattr(MilvusServer, "open", away)
    prefix = f"t{uuid.uuid4().hex[:12]}"
    client = serve(ready=False, engine="milvus", milvus={"url": milvus_url, "prefix": prefix}, refresh_s=0.01)
    wait_until(lambda: client.post("/v1/search/text", json={"query": "x"}).json().get("code") == "not_ready")
    monkeypatch.setattr(MilvusServer, "open", opened)
    wait_until(lambda: client.post("/v1/search/text", json={"query": "x"}).status_code == 200, seconds=120)
