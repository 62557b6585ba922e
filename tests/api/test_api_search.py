"""``/v1/search``: hits, order, paging, filters, several queries."""

from api_home import BITS
from fastapi.testclient import TestClient

from model.fake import FakeHasher

FINGERPRINT = FakeHasher(BITS, seed="demo").fingerprint


def test_text_finds_images_in_the_total_order(client: TestClient) -> None:
    answer = client.post("/v1/search/text", json={"query": "a red square", "limit": 11})
    hits = answer.json()["hits"]
    assert answer.status_code == 200
    assert [(hit["distance"], hit["id"]) for hit in hits] == sorted((hit["distance"], hit["id"]) for hit in hits)
    assert [hit["rank"] for hit in hits] == list(range(1, 12))
    assert all(hit["similarity"] == 1 - hit["distance"] / BITS for hit in hits)
