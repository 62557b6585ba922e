"""What other processes do to an index beside the service: built, appended, deleted, compacted, rolled back."""

import gc

from api_home import BITS, Home, Serve, is_closed, runtime_of, wait_until, webp
from fastapi.testclient import TestClient

from index.compaction import compact
from index.editing import NewItem, editing
from index.generations import IndexDirectory
from index.writer import IndexedItem

TEXT = "a crimson square"


def append(home: Home, item_id: str = "crimson/00", text: str = TEXT) -> None:
    hasher = home.hashers["demo"](BITS)
    codes = {"text": hasher.encode_texts([text]).codes}
    item = IndexedItem(item_id, "c" * 64, text, {"number": 99, "new": True}, webp("crimson"), codes)
    with editing(home.path / "indexes" / "colors") as editor:
        editor.append([NewItem(item, b"picture", {"texts": {"text": [text]}})], fingerprint=hasher.fingerprint)


def nearest(client: TestClient, **changes: object) -> dict[str, object]:
    body = {"query": TEXT, "target": "text", "limit": 1} | changes
    answer = client.post("/v1/search/text", json=body).json()
    found: dict[str, object] = answer["hits"][0] | {"generation": answer["index"]["generation"]}
    return found


def test_appended_items_are_found_after_a_look(home: Home, client: TestClient) -> None:
    append(home)
    assert nearest(client)["id"] != "crimson/00"
    runtime_of(client).refresh()
    hit = nearest(client, filter={"new": True})
    assert (hit["id"], hit["distance"], hit["text"]) == ("crimson/00", 0, TEXT)
    assert client.get(str(hit["image_url"])).content == webp("crimson")
    assert client.get("/v1/indexes/colors/items/crimson%2F00").json()["metadata"] == {"number": 99, "new": True}
    shown = client.get("/v1/indexes/colors").json()
    assert (shown["items"], shown["columns"]["text"]["items"], shown["fields"]["new"]) == (13, 13, "boolean")


def test_deleted_items_are_gone_after_a_look(home: Home, client: TestClient) -> None:
    with editing(home.path / "indexes" / "colors") as editor:
        editor.delete(["red/00"])
    runtime_of(client).refresh()
    assert client.get("/v1/indexes/colors/items/red%2F00").json()["code"] == "item_not_found"
    assert nearest(client, query="a red square")["id"] != "red/00"


def test_a_look_shares_what_is_open_and_closes_what_is_not_used(home: Home, client: TestClient) -> None:
    runtime = runtime_of(client)
    old = runtime.index("colors").snapshot
    append(home)
    runtime.refresh()
    gc.collect()
    new = runtime.index("colors").snapshot
    assert old is not new
    assert old.row_of("red/00") == new.row_of("red/00")
    home.add_generation("colors", "demo")
    runtime.refresh()
    wait_until(lambda: is_closed(old) and is_closed(new))


def test_a_generation_and_an_index_built_elsewhere_are_served(home: Home, client: TestClient) -> None:
    home.add_generation("colors", "demo")
    home.add_generation("fresh", "demo")
    runtime_of(client).refresh()
    assert nearest(client, index="colors")["generation"] == 2
    assert nearest(client, index="fresh")["generation"] == 1


def test_an_index_compacted_and_rolled_back_elsewhere_answers_alike(home: Home, client: TestClient) -> None:
    append(home)
    path = home.path / "indexes" / "colors"
    compact(path)
    runtime_of(client).refresh()
    assert nearest(client) == nearest(client) | {"id": "crimson/00", "generation": 2}
    IndexDirectory(path).rollback()
    runtime_of(client).refresh()
    assert nearest(client) == nearest(client) | {"id": "crimson/00", "generation": 1}


def test_a_look_that_finds_nothing_changes_nothing(client: TestClient) -> None:
    runtime = runtime_of(client)
    before = runtime.index("colors")
    runtime.refresh()
    assert runtime.index("colors") is before


def test_damage_beside_the_service_keeps_the_old_state(home: Home, client: TestClient) -> None:
    append(home)
    log = next((home.path / "indexes" / "colors" / "log").iterdir())
    good = log.read_bytes()
    log.write_bytes(good[:-1] + b"?")
    runtime_of(client).refresh()
    assert nearest(client)["id"] != "crimson/00"
    log.write_bytes(good[:-3])  # the stamp tells sizes apart
    runtime_of(client).refresh()
    log.write_bytes(good)
    runtime_of(client).refresh()
    assert nearest(client)["id"] == "crimson/00"


def test_a_cursor_ends_with_the_next_edit(home: Home, client: TestClient) -> None:
    body = {"query": TEXT, "target": "text", "limit": 1}
    cursor = client.post("/v1/search/text", json=body).json()["next_cursor"]
    assert client.post("/v1/search/text", json=body | {"cursor": cursor}).status_code == 200
    append(home)
    runtime_of(client).refresh()
    assert client.post("/v1/search/text", json=body | {"cursor": cursor}).json()["code"] == "cursor_expired"


def test_the_service_looks_by_itself(home: Home, serve: Serve) -> None:
    client = serve(refresh_s=0.02)
    append(home)
    wait_until(lambda: nearest(client)["id"] == "crimson/00")
