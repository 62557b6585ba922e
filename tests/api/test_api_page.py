"""The page as it is sent; tests/e2e drive it in a browser."""

import re

import pytest
from fastapi.testclient import TestClient

from app.routes.page import UI

FILES = ("/", *sorted(f"/ui/{path.name}" for path in UI.iterdir()))


def test_the_page_is_served_under_a_strict_policy(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", FILES)
def test_no_file_names_another_host(client: TestClient, path: str) -> None:
    text = client.get(path).text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert re.findall(r"https?://|//[a-z0-9.-]+\.[a-z]{2,}/|@import", text) == []


def test_the_page_needs_nothing_that_the_policy_forbids(client: TestClient) -> None:
    page = client.get("/").text
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:", page) == []
    for path in FILES:
        if path.endswith(".js"):
            script = client.get(path).text
            assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script) == [], path


def test_every_file_that_the_page_names_is_there(client: TestClient) -> None:
    named = re.findall(r'(?:src|href)="(/[^"]+)"', client.get("/").text)
    assert all(path == "/openapi.json" or path.startswith("/ui/") for path in named)
    assert all(client.get(path).status_code == 200 for path in named)
