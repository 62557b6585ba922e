"""Pairs: an image with words that refine it as a query, and what the pair column says of its hits."""

import pytest
from api_home import BITS, COLORS, Home, Serve, png
from fastapi.testclient import TestClient
from httpx2 import Response
from test_api_problems import assert_problem

from index.codes import to_hex
from model.fake import FusingFakeHasher
from model.images import decode_image

HASHER = FusingFakeHasher(BITS)
ROUTES = ["/v1/search/pair", "/v1/encode/pair"]
EVERYTHING = len(COLORS)


@pytest.fixture
def fused(home: Home, serve: Serve) -> TestClient:
    """A service whose default index has a pair column; its text-only item is the lime one."""
    home.add_artifact("fusing", FusingFakeHasher)
    home.add_generation("fused", "fusing")
    return serve(default_index="fused")


def ids(answer: dict) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


def post(client: TestClient, path: str, colors: list[str], texts: list[str], **fields: object) -> Response:
    return client.post(path, files=[("file", png(color)) for color in colors], data={"text": texts, **fields})


def fused_code(color: str, text: str) -> str:
    return to_hex(HASHER.encode_pairs([decode_image(png(color))], [text]).codes[0])


def test_an_image_with_its_text_finds_the_item_that_has_both(fused: TestClient) -> None:
    answer = post(fused, "/v1/search/pair", ["gold"], ["a gold square"], limit=1).json()
    assert (ids(answer), answer["hits"][0]["distance"]) == (["gold/03"], 0)
    assert answer["model"]["fingerprint"] == HASHER.fingerprint


def test_words_refine_an_image(fused: TestClient) -> None:
    plain = fused.post("/v1/search/image", files={"file": png("gold")}, data={"target": "pair", "limit": "2"}).json()
    refined = post(fused, "/v1/search/pair", ["gold"], ["a teal square"], limit=2).json()
    assert ids(plain)[0] == "gold/03"
    assert set(ids(refined)) == {"gold/03", "teal/07"}


@pytest.mark.parametrize(
    ("path", "request_of"),
    [
        ("/v1/search/text", {"json": {"query": "a plum square", "target": "pair", "limit": 1}}),
        ("/v1/search/image", {"files": {"file": png("plum")}, "data": {"target": "pair", "limit": "1"}}),
        ("/v1/search/item", {"json": {"item_id": "plum/08", "column": "pair", "limit": 1}}),
        ("/v1/search/item", {"json": {"item_id": "plum/08", "column": "image", "target": "pair", "limit": 1}}),
        ("/v1/search/code", {"json": {"codes": [fused_code("plum", "a plum square")], "target": "pair", "limit": 1}}),
    ],
)
def test_the_pair_column_is_searched_by_whatever_there_is(fused: TestClient, path: str, request_of: dict) -> None:
    (hit,) = fused.post(path, **request_of).json()["hits"]
    assert (hit["id"], hit["presence"]) == ("plum/08", {"image": True, "text": True})


def test_pairs_search_the_other_columns_too(fused: TestClient) -> None:
    for target in ("image", "text"):
        (hit,) = post(fused, "/v1/search/pair", ["gold"], ["a gold square"], target=target, limit=1).json()["hits"]
        assert hit["id"] == "gold/03"
        assert "presence" not in hit


def test_a_hit_says_what_its_code_was_made_from(fused: TestClient) -> None:
    answer = post(fused, "/v1/search/pair", ["red"], ["a red square"], limit=EVERYTHING).json()
    presence = {hit["id"]: hit["presence"] for hit in answer["hits"]}
    assert presence.pop("lime/11") == {"image": False, "text": True}
    assert list(presence.values()) == [{"image": True, "text": True}] * (EVERYTHING - 1)


def test_an_item_says_what_its_pair_code_was_made_from(fused: TestClient) -> None:
    lime = fused.get("/v1/indexes/fused/items/lime%2F11").json()
    assert (lime["presence"], lime["codes"]["pair"]) == ({"image": False, "text": True}, lime["codes"]["text"])
    assert "presence" not in fused.get("/v1/indexes/colors/items/lime%2F11").json()


def test_an_index_counts_its_pairs_by_what_they_were_made_from(fused: TestClient) -> None:
    columns = fused.get("/v1/indexes/fused").json()["columns"]
    assert columns["pair"]["presence"] == {"image_and_text": 11, "image_only": 0, "text_only": 1}
    assert "presence" not in columns["image"]
    assert columns["pair"]["items"] == EVERYTHING


def test_a_model_says_that_it_fuses(fused: TestClient) -> None:
    modalities = {model["name"]: model["modalities"] for model in fused.get("/v1/models").json()["models"]}
    assert modalities == {"demo": ["image", "text"], "fusing": ["image", "pair", "text"]}


def test_several_files_with_a_text_each_are_answered_in_order(fused: TestClient) -> None:
    colors = ["navy", "gold", "teal"]
    texts = [f"a {color} square" for color in colors]
    answers = post(fused, "/v1/search/pair", colors, texts, limit=1).json()["results"]
    assert [ids(answer) for answer in answers] == [["navy/05"], ["gold/03"], ["teal/07"]]
    codes = post(fused, "/v1/encode/pair", colors, texts).json()["codes"]
    assert codes == [fused_code(*pair) for pair in zip(colors, texts, strict=True)]


def test_one_text_goes_with_every_file(fused: TestClient) -> None:
    codes = post(fused, "/v1/encode/pair", ["navy", "gold"], ["at night"]).json()["codes"]
    assert codes == [fused_code("navy", "at night"), fused_code("gold", "at night")]


def test_a_pair_is_encoded_by_a_named_model(fused: TestClient) -> None:
    answer = post(fused, "/v1/encode/pair", ["red"], ["a red square"], model="fusing", bits="128").json()
    hasher = FusingFakeHasher(128)
    assert answer["codes"] == [to_hex(hasher.encode_pairs([decode_image(png("red"))], ["a red square"]).codes[0])]
    assert (answer["bits"], answer["fingerprint"]) == (128, hasher.fingerprint)


def test_cut_texts_are_told(fused: TestClient) -> None:
    texts = ["red", "word " * 300]
    answers = post(fused, "/v1/search/pair", ["red", "gold"], texts).json()["results"]
    assert [answer["truncated_tokens"] for answer in answers] == [0, 44]
    assert post(fused, "/v1/encode/pair", ["red", "gold"], texts).json()["truncated_tokens"] == [0, 44]


def test_pairs_page_like_any_query(fused: TestClient) -> None:
    whole = post(fused, "/v1/search/pair", ["red"], ["a red square"], limit=4).json()
    first = post(fused, "/v1/search/pair", ["red"], ["a red square"], limit=2).json()
    second = post(fused, "/v1/search/pair", ["red"], ["a red square"], limit=2, cursor=first["next_cursor"]).json()
    assert first["hits"] + second["hits"] == whole["hits"]


@pytest.mark.parametrize("path", ROUTES)
def test_a_model_that_does_not_fuse_says_what_to_do(client: TestClient, path: str) -> None:
    answer = post(client, path, ["red"], ["a red square"])
    assert_problem(answer, "modality_not_supported", "found 'demo', which encodes image, text", "GET /v1/models")


def test_a_column_that_is_not_there_says_what_to_do(client: TestClient) -> None:
    answer = client.post("/v1/search/text", json={"query": "a", "target": "pair"})
    assert_problem(answer, "modality_not_supported", "it has: image, text", "or rebuild with a model that encodes pair")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("colors", "texts", "code", "part"),
    [
        (
            ["red", "red", "red"],
            ["a", "b"],
            "invalid_request",
            "one for each of 3 files, or one for all, found 2",
        ),
        (["red"], ["a", "b"], "invalid_request", "one for each of 1 files, or one for all, found 2"),
        (["red"], [], "invalid_request", "text: Field required"),
        (["red"], [" "], "empty_input", "text 0 blank"),
        (["red", "red"], ["a", ""], "empty_input", "text 1 blank"),
        (["red"], ["x" * 8193], "invalid_request", "8,192"),
    ],
)
def test_what_makes_no_pair(
    fused: TestClient, path: str, colors: list[str], texts: list[str], code: str, part: str
) -> None:
    assert_problem(post(fused, path, colors, texts), code, part)


@pytest.mark.parametrize("path", ROUTES)
def test_a_pair_needs_a_file(fused: TestClient, path: str) -> None:
    answer = fused.post(path, files={"text": (None, "a red square")})
    assert_problem(answer, "empty_input", "form part named file")


@pytest.mark.parametrize("path", ROUTES)
def test_other_fields_still_come_once(fused: TestClient, path: str) -> None:
    answer = post(fused, path, ["red"], ["a"], index=["fused", "colors"])
    assert_problem(answer, "invalid_request", "index: expected one form part of this name, found several")


def test_as_many_pairs_as_queries_fit_into_one_call(serve: Serve, fused: TestClient) -> None:
    colors = ["red"] * 64
    texts = [f"text {number}" for number in range(64)]
    assert len(post(fused, "/v1/encode/pair", colors, texts).json()["codes"]) == 64
    fewer = serve(default_index="fused", limits={"queries": 1})
    assert post(fewer, "/v1/search/pair", ["red", "red"], ["a"]).status_code == 422


def test_an_image_that_does_not_decode_is_refused(fused: TestClient) -> None:
    answer = fused.post("/v1/search/pair", files={"file": b"not a picture"}, data={"text": "a red square"})
    assert_problem(answer, "unsupported_image")


def test_the_document_shows_files_and_texts_as_lists(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ROUTES:
        form = paths[path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert form["required"] == ["file", "text"]
        assert form["properties"]["text"]["type"] == form["properties"]["file"]["type"] == "array"
