"""Keys and roles over HTTP, refusal before the body, pages of other sites."""

import asyncio
from pathlib import Path

import pytest
from api_home import Home, Serve, open_recorded_jobs
from fastapi.testclient import TestClient
from starlette.types import Message

from app.keys import digest_of
from app.main import create_app
from app.problems import MEDIA_TYPE
from app.settings import Settings

KEYS = {"query": [digest_of("reader")], "admin": [digest_of("owner")]}
SEARCH = ("POST", "/v1/search/text")
REBUILD = ("POST", "/v1/indexes/colors/rebuild")
ORIGIN = "https://gallery.example.org"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def guarded(serve: Serve) -> TestClient:
    return serve(keys=KEYS)


def ask(client: TestClient, route: tuple[str, str], headers: dict[str, str] | None = None, **options: object) -> int:
    method, path = route
    body = {"json": {"query": "a"}} if path == SEARCH[1] else {}
    return client.request(method, path, headers=headers, **body, **options).status_code


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/openapi.json", "/ui/icon.svg"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_needs_no_key(guarded: TestClient, path: str, method: str) -> None:
    assert guarded.request(method, path).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/v1/indexes", "/v1/jobs", "/v1/models", "/v1/nowhere", "/nowhere"])
def test_what_is_read_with_a_key(guarded: TestClient, path: str) -> None:
    assert guarded.get(path).status_code == 401
    expected = 404 if "nowhere" in path else 200
    assert [guarded.get(path, headers=bearer(key)).status_code for key in ("reader", "owner")] == [expected] * 2


def test_searching_needs_the_role_query(guarded: TestClient) -> None:
    assert [ask(guarded, SEARCH, bearer(key)) for key in ("reader", "owner", "nobody")] == [200, 200, 401]


@pytest.mark.parametrize("path", ["indexes/colors/rebuild", "indexes/colors/rollback", "jobs/job-1/cancel"])
def test_changing_needs_the_role_admin(guarded: TestClient, path: str) -> None:
    answer = guarded.post(f"/v1/{path}", headers=bearer("reader"))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "role admin" in answer.json()["detail"]
    assert guarded.app.state.jobs.asked == []
    assert guarded.post(f"/v1/{path}", headers=bearer("owner")).status_code != 403


@pytest.mark.parametrize(("method", "path"), [("POST", "items"), ("DELETE", "items/red%2F00")])
def test_editing_needs_the_role_admin(guarded: TestClient, method: str, path: str) -> None:
    body = {"json": {"items": [{"id": "new", "text": "a"}]}} if method == "POST" else {}
    answers = [
        guarded.request(method, f"/v1/indexes/colors/{path}", headers=bearer(key), **body)
        for key in ("reader", "owner")
    ]
    assert [answer.status_code for answer in answers] == [403, 200]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer nobody",
        "Basic cmVhZGVy",
        "reader",
        f"Bearer {digest_of('reader')}",
        "Bearer é",
    ],
)
def test_what_is_no_key(guarded: TestClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    answer = guarded.post(SEARCH[1], json={"query": "a"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == MEDIA_TYPE


def test_a_scheme_is_read_in_any_case(guarded: TestClient) -> None:
    assert ask(guarded, SEARCH, {"Authorization": "bearer reader"}) == 200


@pytest.mark.parametrize("name", ["key", "api_key", "token", "access_token", "authorization"])
def test_a_key_in_the_address_counts_for_nothing(guarded: TestClient, name: str) -> None:
    assert ask(guarded, SEARCH, params={name: "reader"}) == 401


def test_a_key_in_a_cookie_counts_for_nothing(guarded: TestClient) -> None:
    assert ask(guarded, SEARCH, {"Cookie": "Authorization=Bearer reader"}) == 401


def test_no_path_leads_around_the_roles(guarded: TestClient) -> None:
    for path in ("/v1/search/../indexes/colors/rebuild", "/ui/../v1/indexes", "/v1/search/%2e%2e/%2e%2e/metrics"):
        assert guarded.post(path, headers=bearer("reader")).status_code in (401, 403, 404)
        assert guarded.get(path).status_code in (401, 404)
    assert guarded.app.state.jobs.asked == []


def test_keys_of_a_file_count(home: Home, serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"query {digest_of('filed')}\n")
    client = serve(keys_file=path)
    assert [ask(client, SEARCH, bearer(key)) for key in ("filed", "reader")] == [200, 401]


def test_without_keys_everything_is_open(client: TestClient) -> None:
    assert (ask(client, SEARCH), ask(client, REBUILD)) == (200, 202)


@pytest.mark.parametrize(("headers", "status"), [([], 401), ([(b"authorization", b"Bearer reader")], 403)])
def test_the_body_of_a_refused_request_is_not_read(home: Home, headers: list, status: int) -> None:
    settings = Settings(home=home.path, log_level="error", keys=KEYS)
    application = create_app(settings, load_hasher=home.load, open_jobs=open_recorded_jobs)
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": REBUILD[1],
        "raw_path": REBUILD[1].encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    asyncio.run(application(scope, receive, send))
    assert sent[0]["status"] == status


def preflight(client: TestClient, origin: str) -> dict[str, str]:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    return dict(client.options(SEARCH[1], headers=headers).headers)


def test_pages_of_other_sites_are_shut_out_unless_set(client: TestClient) -> None:
    assert "access-control-allow-origin" not in preflight(client, ORIGIN)
    cross = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    assert ask(client, SEARCH, cross) == 403


def test_pages_of_a_set_origin_may_call(serve: Serve) -> None:
    client = serve(keys=KEYS, cors_origins=[ORIGIN])
    allowed = preflight(client, ORIGIN)
    assert allowed["access-control-allow-origin"] == ORIGIN
    assert {"authorization", "content-type"} <= set(allowed["access-control-allow-headers"].lower().split(", "))
    assert "access-control-allow-credentials" not in allowed
    cross = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    answer = client.post(SEARCH[1], json={"query": "a"}, headers=cross | bearer("reader"))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "x-index-generation" in answer.headers["access-control-expose-headers"].lower()


def test_pages_of_a_set_origin_can_read_what_was_wrong(serve: Serve) -> None:
    client = serve(keys=KEYS, cors_origins=[ORIGIN])
    answer = client.post(SEARCH[1], json={"query": ""}, headers={"Origin": ORIGIN})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, ORIGIN)


def test_other_origins_stay_out(serve: Serve) -> None:
    client = serve(cors_origins=[ORIGIN])
    for origin in ("https://evil.example.org", f"{ORIGIN}.evil.net", "null"):
        assert "access-control-allow-origin" not in preflight(client, origin)
        assert ask(client, SEARCH, {"Origin": origin, "Sec-Fetch-Site": "cross-site"}) == 403


@pytest.mark.parametrize("origin", ["*", "gallery.example.org", f"{ORIGIN}/", "null", "https://*.example.org"])
def test_an_origin_is_whole(origin: str) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        Settings(cors_origins=[origin])
