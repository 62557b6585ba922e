"""A Debian package as a source of data: fetched, checked and unpacked without being installed."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from model.errors import ArchiveError


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """One exact package file."""

    name: str
    version: str
    sha256: str


def unpack(package: DebianPackage, directory: Path, local: Path | None = None) -> Path:
    """Unpack the package below ``directory`` and return the root of its files; nothing is installed.

    Raises:
        ArchiveError: a Debian tool is missing or fails, or the file is not the expected one.
    """
    file = local or _fetch(package, directory)
    _verify(package, file)
    root = directory / "root"
    _run("dpkg-deb", "-x", str(file.resolve()), str(root), cwd=directory)
    return root


def _fetch(package: DebianPackage, directory: Path) -> Path:
    _run("apt-get", "download", f"{package.name}={package.version}", cwd=directory)
    return next(directory.glob("*.deb"))


def _verify(package: DebianPackage, file: Path) -> None:
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ArchiveError(f"expected the package {package.name} at {file}: {error}") from error
    if found != package.sha256:
        raise ArchiveError(
            f"expected SHA-256 {package.sha256} for {package.name} {package.version}, found {found} in {file.name}; "
            "download that version again"
        )


def _run(tool: str, *arguments: str, cwd: Path) -> None:
    program = shutil.which(tool)
    if program is None:
        raise ArchiveError(
            f"expected {tool} on this machine, found none; build on Debian or Ubuntu, or use the "
            "archive that ships with crossbit"
        )
    result = subprocess.run(  # noqa: S603 - two fixed programs, no shell
        [program, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise ArchiveError(f"{tool} {' '.join(arguments)} failed: {result.stderr.strip() or result.returncode}")
