import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from index.kernel.library import Library

ROOT = Path(__file__).parents[3]


def build(source: Path, compiler: str) -> subprocess.CompletedProcess[str]:
    shutil.copytree(ROOT / "index" / "kernel", source / "index" / "kernel", ignore=shutil.ignore_patterns("*.so"))
    shutil.copy(ROOT / "setup.py", source)
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=source,
        env={**os.environ, "CC": compiler},
        capture_output=True,
        text=True,
    )


def test_the_kernel_compiles_without_a_warning_and_loads(tmp_path: Path) -> None:
    built = build(tmp_path, "cc -Wall -Wextra -Werror")
    assert built.returncode == 0, built.stderr
    (path,) = (tmp_path / "index" / "kernel").glob("*.so")
    planes = np.array([[3, 1, 3, 2]], dtype=np.uint64)
    assert Library(path).sort(planes).tolist() == [1, 3, 0, 2]


def test_an_installation_without_a_compiler_still_succeeds(tmp_path: Path) -> None:
    built = build(tmp_path, "no-such-compiler")
    assert built.returncode == 0, built.stderr
    assert not list((tmp_path / "index" / "kernel").glob("*.so"))
