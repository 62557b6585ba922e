"""The page as it is sent; ``tests/e2e/test_page_*.py`` drive it in a browser."""

import re

import pytest
from fastapi.testclient import TestClient

from app.routes.page import UI

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


@pytest.mark.parametrize("path", FILES)
def test_browsers_ask_for_each_file_again(client: TestClient, path: str) -> None:
    assert client.get(path).headers["cache-control"] == "no-cache"


def test_a_file_that_the_browser_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/ui/main.js").headers["etag"]
    answer = client.get("/ui/main.js", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.headers["cache-control"]) == (304, "no-cache")


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
    named = set(re.findall(r'(?:src|href)="(/[^"]+)"', client.get("/").text))
    imported = {f"/ui/{name}" for path in SCRIPTS for name in re.findall(r'from "\./([^"]+)"', client.get(path).text)}
    assert named | imported == {*FILES, "/openapi.json"} - {"/"}
    assert all(client.get(path).status_code == 200 for path in named | imported)
