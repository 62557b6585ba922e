"""The page as it is sent; a browser drives it in issue 3."""

import re

import pytest
from fastapi.testclient import TestClient

FILES = ("/", "/ui/app.js", "/ui/style.css", "/ui/icon.svg")


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
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", client.get("/ui/app.js").text)
        == []
    )


def test_every_file_that_the_page_names_is_there(client: TestClient) -> None:
    named = re.findall(r'(?:src|href)="(/[^"]+)"', client.get("/").text)
    assert set(named) == {"/ui/icon.svg", "/ui/style.css", "/ui/app.js", "/openapi.json"}
    assert all(client.get(path).status_code == 200 for path in named)
