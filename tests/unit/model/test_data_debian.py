import hashlib
from pathlib import Path

import pytest

from model.data.debian import DebianPackage, unpack
from model.errors import ArchiveError

CONTENT = b"stands for a package"
PACKAGE = DebianPackage("clips", "1.0", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for apt-get and dpkg-deb, which not every machine has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    add_tool(folder, "apt-get", f"test \"$1 $2\" = 'download clips=1.0' && printf '{CONTENT.decode()}' > clips_1.0.deb")
    add_tool(folder, "dpkg-deb", 'mkdir -p "$3/usr" && cp "$2" "$3/usr/content"')
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def add_tool(folder: Path, name: str, command: str) -> None:
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{command}\n")
    tool.chmod(0o755)


def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.usefixtures("tools")
def test_the_exact_version_is_downloaded_checked_and_unpacked(tmp_path: Path) -> None:
    root = unpack(PACKAGE, work(tmp_path))
    assert (root / "usr" / "content").read_bytes() == CONTENT


@pytest.mark.usefixtures("tools")
def test_a_local_package_is_used_where_one_is_given(tmp_path: Path) -> None:
    (tmp_path / "local.deb").write_bytes(CONTENT)
    root = unpack(PACKAGE, work(tmp_path), tmp_path / "local.deb")
    assert (root / "usr" / "content").read_bytes() == CONTENT


@pytest.mark.usefixtures("tools")
def test_another_package_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "local.deb").write_bytes(b"something else")
    folder = work(tmp_path)
    with pytest.raises(ArchiveError, match="expected SHA-256"):
        unpack(PACKAGE, folder, tmp_path / "local.deb")
    assert list(folder.iterdir()) == []


def test_a_missing_local_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"absent\.deb"):
        unpack(PACKAGE, work(tmp_path), tmp_path / "absent.deb")


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArchiveError, match="expected apt-get on this machine"):
        unpack(PACKAGE, work(tmp_path))


def test_the_message_of_a_failing_tool_is_passed_on(tmp_path: Path, tools: Path) -> None:
    add_tool(tools, "apt-get", "echo 'no such version' >&2; exit 100")
    with pytest.raises(ArchiveError, match="no such version"):
        unpack(PACKAGE, work(tmp_path))
