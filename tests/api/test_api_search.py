"""``/v1/search``: hits, order, paging, filters, several queries."""

import base64
import json

from api_home import BITS, COLORS, Home, Serve, png
from fastapi.testclient import TestClient

from index.codes import to_hex
from model.fake import FakeHasher

FINGERPRINT = FakeHasher(BITS, seed="demo").fingerprint
EVERYTHING = len(COLORS)


def ids(answer: dict) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


def test_hits_come_in_the_total_order(client: TestClient) -> None:
    hits = client.post("/v1/search/text", json={"query": "a red square", "limit": 11}).json()["hits"]
    assert [(hit["distance"], hit["id"]) for hit in hits] == sorted((hit["distance"], hit["id"]) for hit in hits)
    assert [hit["rank"] for hit in hits] == list(range(1, 12))
    assert all(hit["similarity"] == 1 - hit["distance"] / BITS for hit in hits)


def test_an_answer_says_who_gave_it(client: TestClient) -> None:
    answer = client.post("/v1/search/text", json={"query": "a red square"})
    body = answer.json()
    assert body["index"] == {"name": "colors", "generation": 1}
    assert body["model"] == {"name": "demo", "fingerprint": FINGERPRINT}
    assert answer.headers["X-Index-Generation"] == "1"
    assert answer.headers["X-Model-Fingerprint"] == FINGERPRINT
    assert set(body["took_ms"]) == {"queue", "decode", "encode", "search", "total"}
    assert "total_within_radius" not in body


def test_a_hit_tells_text_metadata_and_picture(client: TestClient) -> None:
    body = {"query": "a gold square", "target": "text", "limit": 1}
    (hit,) = client.post("/v1/search/text", json=body).json()["hits"]
    assert (hit["id"], hit["distance"], hit["similarity"], hit["text"]) == ("gold/03", 0, 1.0, "a gold square")
    assert hit["metadata"] == {"number": 3, "labels": ["gold", "square"], "warm": True}
    assert client.get(hit["image_url"]).headers["content-type"] == "image/webp"


def test_an_item_without_picture_has_no_image_url(client: TestClient) -> None:
    body = {"query": "a lime square", "target": "text", "limit": 1}
    (hit,) = client.post("/v1/search/text", json=body).json()["hits"]
    assert hit["id"] == "lime/11"
    assert "image_url" not in hit


def test_equal_codes_share_a_tie_group(client: TestClient) -> None:
    answer = client.post("/v1/search/image", files={"file": png("green")}, data={"target": "image", "limit": "2"})
    assert ids(answer.json()) == ["green/01", "red/00"]
    assert [hit["tie"] for hit in answer.json()["hits"]] == [{"first_rank": 1, "last_rank": 2, "size": 2}] * 2


def test_an_image_searches_the_texts_by_default(client: TestClient) -> None:
    answer = client.post("/v1/search/image", files={"file": png()}, data={"limit": str(EVERYTHING)}).json()
    assert len(answer["hits"]) == EVERYTHING  # also the item that has no image


def test_an_image_may_come_in_json(client: TestClient) -> None:
    form = client.post("/v1/search/image", files={"file": png("blue")}).json()
    body = {"image_base64": base64.b64encode(png("blue")).decode()}
    assert client.post("/v1/search/image", json=body).json()["hits"] == form["hits"]


def test_several_texts_are_answered_in_order(client: TestClient) -> None:
    texts = ["a pink square", "a teal square"]
    single = [client.post("/v1/search/text", json={"query": text}).json()["hits"] for text in texts]
    several = client.post("/v1/search/text", json={"queries": texts}).json()["results"]
    assert [answer["hits"] for answer in several] == single


def test_queries_of_one_still_give_a_list(client: TestClient) -> None:
    assert len(client.post("/v1/search/text", json={"queries": ["a pink square"]}).json()["results"]) == 1


def test_several_files_are_answered_in_order(client: TestClient) -> None:
    files = [("file", png("navy")), ("file", png("gold"))]
    answers = client.post("/v1/search/image", files=files, data={"target": "image", "limit": "1"}).json()["results"]
    assert [ids(answer) for answer in answers] == [["navy/05"], ["gold/03"]]


def test_a_long_text_says_how_much_was_cut(client: TestClient) -> None:
    answer = client.post("/v1/search/text", json={"query": "word " * 300}).json()
    assert answer["truncated_tokens"] == 44


def test_an_image_answer_has_no_tokens(client: TestClient) -> None:
    assert "truncated_tokens" not in client.post("/v1/search/image", files={"file": png()}).json()


def test_a_code_finds_what_its_text_finds(client: TestClient) -> None:
    by_text = client.post("/v1/search/text", json={"query": "a tan square"}).json()
    (code,) = client.post("/v1/encode/text", json={"query": "a tan square"}).json()["codes"]
    by_code = client.post("/v1/search/code", json={"codes": [code], "fingerprint": FINGERPRINT}).json()
    assert by_code["hits"] == by_text["hits"]


def test_several_codes_are_answered_in_order(client: TestClient) -> None:
    codes = client.post("/v1/encode/text", json={"queries": ["a tan square", "a red square"]}).json()["codes"]
    answers = client.post("/v1/search/code", json={"codes": codes, "target": "text", "limit": 1}).json()["results"]
    assert [ids(answer) for answer in answers] == [["tan/09"], ["red/00"]]


def test_codes_need_no_model(home: Home, serve: Serve) -> None:
    code = to_hex(home.hashers["demo"](BITS).encode_texts(["a teal square"]).codes[0])
    (home.path / "artifacts" / "demo" / "manifest.json").unlink()
    client = serve()
    assert ids(client.post("/v1/search/code", json={"codes": [code], "target": "text", "limit": 1}).json()) == [
        "teal/07"
    ]
    assert home.loads == []


def test_a_stored_item_finds_itself_and_its_like(client: TestClient) -> None:
    answer = client.post("/v1/search/item", json={"item_id": "red/00", "limit": 2}).json()
    assert ids(answer) == ["green/01", "red/00"]


def test_a_stored_item_may_ask_across_columns(client: TestClient) -> None:
    body = {"item_id": "plum/08", "column": "text", "target": "image", "limit": 3}
    by_text = client.post("/v1/search/text", json={"query": "a plum square", "limit": 3}).json()
    assert client.post("/v1/search/item", json=body).json()["hits"] == by_text["hits"]


def test_a_radius_is_inclusive_and_its_total_exact(client: TestClient) -> None:
    everything = client.post("/v1/search/text", json={"query": "a red square", "limit": 11}).json()["hits"]
    radius = everything[4]["distance"]
    within = [hit for hit in everything if hit["distance"] <= radius]
    answer = client.post("/v1/search/text", json={"query": "a red square", "radius": radius, "limit": 2}).json()
    assert answer["hits"] == within[:2]
    assert answer["total_within_radius"] == len(within)
    assert answer["truncated"] is False


def test_pages_make_one_long_page(client: TestClient) -> None:
    for extra in ({}, {"radius": BITS}, {"filter": {"warm": False}}):
        body = {"query": "a snow square", "target": "text", **extra}
        whole = client.post("/v1/search/text", json=body | {"limit": 100}).json()
        assert whole["next_cursor"] is None
        for size in (1, 3, 5, EVERYTHING):
            hits, cursor = [], None
            while True:
                page = client.post("/v1/search/text", json=body | {"limit": size, "cursor": cursor}).json()
                hits += page["hits"]
                if (cursor := page["next_cursor"]) is None:
                    break
            assert hits == whole["hits"]


def test_a_form_pages_too(client: TestClient) -> None:
    first = client.post("/v1/search/image", files={"file": png()}, data={"limit": "1"}).json()
    data = {"limit": "1", "cursor": first["next_cursor"]}
    second = client.post("/v1/search/image", files={"file": png()}, data=data).json()
    both = client.post("/v1/search/image", files={"file": png()}, data={"limit": "2"}).json()
    assert first["hits"] + second["hits"] == both["hits"]


def test_a_radius_search_beyond_the_depth_says_so(serve: Serve) -> None:
    client = serve(limits={"depth": 5})
    body = {"query": "a red square", "radius": BITS, "limit": 4}
    first = client.post("/v1/search/text", json=body).json()
    second = client.post("/v1/search/text", json=body | {"cursor": first["next_cursor"]}).json()
    assert [len(first["hits"]), len(second["hits"])] == [4, 1]
    assert second["next_cursor"] is None
    assert [first["truncated"], second["truncated"]] == [True, True]
    assert second["total_within_radius"] == 11


def test_filters_keep_what_matches(client: TestClient) -> None:
    def found(condition: dict) -> set[str]:
        body = {"query": "a red square", "target": "text", "limit": 100, "filter": condition}
        return {item.split("/")[0] for item in ids(client.post("/v1/search/text", json=body).json())}

    assert found({"warm": True}) == {"red", "gold", "pink"}
    assert found({"labels": {"in": ["teal", "plum"]}}) == {"teal", "plum"}
    assert found({"number": {"gte": 9, "lt": 11}}) == {"tan", "snow"}
    assert found({"number": {"gte": 9}, "labels": "lime"}) == {"lime"}


def test_a_form_carries_a_filter_as_json(client: TestClient) -> None:
    data = {"filter": json.dumps({"number": 2}), "limit": "5"}
    assert ids(client.post("/v1/search/image", files={"file": png()}, data=data).json()) == ["blue/02"]


def test_an_index_is_named_where_there_are_two(home: Home, serve: Serve) -> None:
    home.add_artifact("other")
    home.add_generation("more", "other", bits=128)
    client = serve()
    body = {"query": "a red square", "target": "text", "limit": 1}
    for name in ("colors", "more"):
        answer = client.post("/v1/search/text", json=body | {"index": name}).json()
        assert (answer["index"]["name"], answer["hits"][0]["distance"]) == (name, 0)
    assert client.post("/v1/search/text", json=body).status_code == 422


def test_a_default_index_may_be_set(home: Home, serve: Serve) -> None:
    home.add_generation("more", "demo", bits=128)
    answer = serve(default_index="more").post("/v1/search/text", json={"query": "red"}).json()
    assert answer["index"]["name"] == "more"


def test_an_equal_hasher_is_loaded_once(home: Home, serve: Serve) -> None:
    home.add_generation("more", "demo")
    serve()
    assert home.loads == [("demo", BITS)]


def test_explain_tells_what_the_engine_did_and_nothing_else_changes(client: TestClient) -> None:
    body = {"query": "a red square", "filter": {"warm": True}}
    plain = client.post("/v1/search/text", json=body).json()
    explained = client.post("/v1/search/text", json=body | {"explain": True}).json()
    plan = explained.pop("plan")
    assert plan.keys() == {"engine", "strategy", "codes", "entries", "candidates", "fallback"}
    assert (plan["engine"], plan["strategy"], plan["fallback"]) == ("kernel", "scan", False)
    assert 0 < plan["codes"] < EVERYTHING
    assert (explained | {"took_ms": 0}) == (plain | {"took_ms": 0})
