"""Builds the CPU image where no container engine runs: Debian's buildah, from a base that debootstrap makes.

Everything lies in one folder, which may be deleted: the base's files, buildah's store, and what runs. The `vfs` driver
copies every layer whole, which is why there is a check of the disk first.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOM_BYTES = 16 * 10**9  # five copies of what pip installs, with the base below it, and some smaller ones
BASE, IMAGE = "localhost/crossbit-base", "localhost/crossbit"
PACKAGES = "ca-certificates,python3,python3-venv"
SUITE = "bookworm"
TORCH_SPEC = "torch==2.13.0"  # a CPU build of it lies where the image is built in CI


class NoImage(Exception):
    """The image cannot be built here; the message says what is missing."""


@dataclass(frozen=True)
class Buildah:
    """One store of images and containers."""

    folder: Path

    def command(self, *arguments: str) -> list[str]:
        """A command line of buildah in this store."""
        store = ("--root", str(self.folder / "store"), "--runroot", str(self.folder / "run"), "--storage-driver", "vfs")
        return ["buildah", *store, *arguments]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(self.command(*arguments), stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    def make_base(self) -> None:
        """Debian with Python, as a local image; costs a minute."""
        files = self.folder / "base"
        if not files.is_dir():
            made = files.with_suffix(".new")
            shutil.rmtree(made, ignore_errors=True)
            made.parent.mkdir(parents=True, exist_ok=True)
            run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(made))
            made.rename(files)
        container = self("from", "scratch")
        self("add", "--quiet", container, str(files), "/")
        self("commit", "--quiet", container, BASE)
        self("rm", container)

    def build(self, revision: str) -> None:
        """The image of the checkout, in one layer above the base: a layer for each step would take 40 GB here."""
        arguments = [f"BASE_IMAGE={BASE}", f"TORCH_SPEC={TORCH_SPEC}", f"REVISION={revision}"]
        options = [f"--build-arg={one}" for one in arguments]
        run(
            *self.command("bud", "--isolation", "chroot", "--format", "docker", "--pull-never"),
            *(*options, *_pip_of_this_machine(self.folder), "--tag", IMAGE, str(ROOT)),
        )

    def layers(self) -> tuple[int, list[int]]:
        """Bytes of the base, and of each layer above it, lowest first."""
        below, digests = (
            json.loads(self("inspect", "--type", "image", one))["OCIv1"]["rootfs"]["diff_ids"] for one in (BASE, IMAGE)
        )
        assert digests[: len(below)] == below
        stored = json.loads((self.folder / "store" / "vfs-layers" / "layers.json").read_text(encoding="utf-8"))
        sizes = {one["diff-digest"]: one["diff-size"] for one in stored if "diff-digest" in one}
        return sum(sizes[one] for one in below), [sizes[one] for one in digests[len(below) :]]


def check_room(folder: Path) -> None:
    """Raises: NoImage, with what is free and what is needed, or the tool that is missing."""
    for tool in ("buildah", "debootstrap"):
        if shutil.which(tool) is None:
            raise NoImage(f"expected the command {tool}, found none; on Debian: apt-get install buildah debootstrap")
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < ROOM_BYTES:
        raise NoImage(
            f"expected {ROOM_BYTES / 1e9:.0f} GB free at {folder}, found {free / 1e9:.1f} GB; free some, or name a "
            "folder on another disk by CROSSBIT_IMAGE_DIR"
        )


def _pip_of_this_machine(folder: Path) -> list[str]:
    """Options that let pip inside reach what pip outside reaches; none of it gets into the image."""
    listed = run("python3", "-m", "pip", "config", "list", quiet=True)
    settings = dict(re.findall(r"^(?:global|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))
    config = folder / "pip.conf"
    lines = (f"{name} = {value}".replace("\\n", "\n    ") for name, value in settings.items())
    config.write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    words = " ".join(settings.values()).replace("\\n", " ").split()
    paths = {Path(word) for word in words if word.startswith("/")}
    for word in words:
        if word.startswith("file:///"):
            paths.add(Path(word.removeprefix("file://")).parent)  # the files of an index lie beside it
    volumes = {path: path for path in paths if path.exists()} | {Path("/etc/pip.conf"): config}
    return [f"--volume={outside}:{inside}:ro" for inside, outside in sorted(volumes.items())]


def run(*command: str, quiet: bool = False) -> str:
    """Run a program and return what it prints, which goes on to standard error unless ``quiet``."""
    output = subprocess.PIPE if quiet else sys.stderr
    return subprocess.run(command, stdout=output, text=True, check=True).stdout or ""
