"""The page as it is sent; ``tests/e2e/test_page_*.py`` drive it in a browser."""

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.routes.page import UI, VERSION, version_of

FILES = ("/", *(f"/ui/{path.name}" for path in sorted(UI.iterdir()) if path.name != "index.html"))
SCRIPTS = tuple(path for path in FILES if path.endswith(".js"))


def test_the_page_is_served_under_a_strict_policy(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", FILES)
def test_no_file_names_another_host(client: TestClient, path: str) -> None:
    text = re.sub(r"http://www\.w3\.org/2000/svg", "", client.get(path).text)
    assert re.findall(r"https?://|//[a-z0-9.-]+\.[a-z]{2,}/|@import", text) == []


def test_browsers_ask_for_the_page_and_keep_its_files(client: TestClient) -> None:
    assert client.get("/").headers["cache-control"] == "no-cache"
    for path in named_by(client.get("/").text) - {"/openapi.json"}:
        assert client.get(path).headers["cache-control"] == "public, max-age=31536000, immutable"
        assert client.get(path).content == client.get(path.replace(f"/{VERSION}/", "/")).content


@pytest.mark.parametrize("path", ["/ui/main.js", "/ui/0123456789abcdef/main.js"])
def test_a_file_of_another_version_is_not_kept(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert "immutable" not in answer.headers.get("cache-control", "")
    assert answer.status_code == (200 if path == "/ui/main.js" else 404)


def test_the_version_is_that_of_the_contents(tmp_path: Path) -> None:
    versions = set()
    for name, text in (("a.js", "1"), ("a.js", "2"), ("b.js", "")):
        (tmp_path / name).write_text(text)
        versions.add(version_of(tmp_path))
    assert len(versions) == 3


def test_the_page_needs_nothing_that_the_policy_forbids(client: TestClient) -> None:
    page = client.get("/").text
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:", page) == []


@pytest.mark.parametrize("path", SCRIPTS)
def test_no_script_makes_markup_or_code_of_text(client: TestClient, path: str) -> None:
    text = client.get(path).text
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text) == []


@pytest.mark.parametrize("path", SCRIPTS)
def test_no_script_keeps_anything_beyond_the_page(client: TestClient, path: str) -> None:
    assert re.findall(r"localStorage|sessionStorage|indexedDB|document\.cookie|caches\.", client.get(path).text) == []


def test_every_file_that_the_page_names_is_there_and_every_file_is_named(client: TestClient) -> None:
    named = {path.replace(f"/{VERSION}/", "/") for path in named_by(client.get("/").text)}
    imported = {f"/ui/{name}" for path in SCRIPTS for name in re.findall(r'from "\./([^"]+)"', client.get(path).text)}
    assert named | imported == {*FILES, "/openapi.json"} - {"/"}
    assert all(client.get(path).status_code == 200 for path in named | imported)


def named_by(page: str) -> set[str]:
    return set(re.findall(r'(?:src|href)="(/[^"]+)"', page))
