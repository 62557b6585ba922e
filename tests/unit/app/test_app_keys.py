import hmac
import json
from pathlib import Path

import pytest

import app.cli
from app.keys import PREFIX, KeyRing, KeysFileError, digest_of, load_keys, new_key
from app.roles import Role, needed_role
from app.settings import Keys, Settings

DIGEST = digest_of("a key")


def test_a_key_has_the_role_of_its_digest() -> None:
    ring = KeyRing(((digest_of("one"), Role.QUERY), (digest_of("two"), Role.ADMIN)))
    assert [ring.role_of(key) for key in ("one", "two", "three", "", digest_of("one"))] == [
        Role.QUERY,
        Role.ADMIN,
        None,
        None,
        None,
    ]


def test_every_digest_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    compare = hmac.compare_digest

    def noted(known: str, found: str) -> bool:
        compared.append(known)
        return compare(known, found)

    monkeypatch.setattr(hmac, "compare_digest", noted)
    ring = KeyRing(tuple((digest_of(key), Role.QUERY) for key in "abc"))
    assert ring.role_of("a") is Role.QUERY
    assert compared == [digest_of(key) for key in "abc"]


def test_a_key_of_both_roles_is_an_admin() -> None:
    ring = load_keys(Settings(keys=Keys(query=(DIGEST,), admin=(DIGEST,))))
    assert ring.role_of("a key") is Role.ADMIN


def test_settings_and_file_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# keys of the gallery\n\nadmin {DIGEST}  # Ada\nquery {digest_of('other')}\n")
    ring = load_keys(Settings(keys=Keys(query=(digest_of("third"),)), keys_file=path))
    assert [ring.role_of(key) for key in ("a key", "other", "third")] == [Role.ADMIN, Role.QUERY, Role.QUERY]


def test_without_keys_the_ring_is_empty() -> None:
    assert not load_keys(Settings())


@pytest.mark.parametrize("line", ["my-secret-key", "query my-secret-key", f"root {DIGEST}", f"{DIGEST}", "query " * 9])
def test_a_line_that_is_no_key_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / "keys"
    path.write_text(f"query {DIGEST}\n{line}\n")
    with pytest.raises(KeysFileError, match="line 2: expected `query DIGEST`") as raised:
        load_keys(Settings(keys_file=path))
    assert "my-secret-key" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_keys_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KeysFileError, match="cannot read the keys file"):
        load_keys(Settings(keys_file=path))


def test_a_key_in_place_of_its_digest_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_KEYS__QUERY", json.dumps(["my-secret-key"]))
    with pytest.raises(ValueError, match="64") as raised:
        Settings()
    assert "my-secret-key" not in str(raised.value)


def test_digests_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSBIT_KEYS__ADMIN", json.dumps([DIGEST]))
    assert load_keys(Settings()).role_of("a key") is Role.ADMIN


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/", None),
        ("HEAD", "/livez", None),
        ("GET", "/ui/main.js", None),
        ("GET", "/metrics", Role.QUERY),
        ("GET", "/v1/jobs", Role.QUERY),
        ("OPTIONS", "/v1/jobs", Role.QUERY),
        ("POST", "/v1/search/text", Role.QUERY),
        ("POST", "/v1/encode/pair", Role.QUERY),
        ("POST", "/v1/indexes/demo/rebuild", Role.ADMIN),
        ("POST", "/v1/jobs/1/cancel", Role.ADMIN),
        ("DELETE", "/v1/indexes/demo/items/1", Role.ADMIN),
        ("POST", "/livez", Role.ADMIN),
        ("BREW", "/", Role.ADMIN),
    ],
)
def test_what_only_reads_needs_query_and_all_else_admin(method: str, path: str, role: Role | None) -> None:
    assert needed_role(method, path) is role


def test_the_command_makes_a_key_whose_digest_the_service_knows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["crossbit", "key", "--role", "admin", "--json"])
    with pytest.raises(SystemExit):
        app.cli.main()
    made = json.loads(capsys.readouterr().out)
    monkeypatch.setenv(made["setting"], json.dumps(made["value"]))
    assert load_keys(Settings()).role_of(made["key"]) is Role.ADMIN


def test_the_command_puts_the_key_alone_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["crossbit", "key"])
    with pytest.raises(SystemExit):
        app.cli.main()
    shown = capsys.readouterr()
    key = shown.out.strip()
    assert key.startswith(PREFIX)
    assert f"CROSSBIT_KEYS__QUERY='[\"{digest_of(key)}\"]'" in shown.err
    assert key not in shown.err


def test_no_two_keys_are_alike() -> None:
    assert len({new_key() for _ in range(100)}) == 100
