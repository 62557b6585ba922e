import subprocess
import sys

MODULES = """
import index.codes, index.errors, index.filters, index.generations, index.manifest, index.ranking
import index.search, index.snapshot, index.writer
"""
COST = f"""
import time
import numpy
start = time.process_time()
{MODULES}
print(time.process_time() - start)
"""
LOADED = f"""
import sys
{MODULES}
print(" ".join(sorted({{name.partition('.')[0] for name in sys.modules}})))
"""
MAX_CPU_S = 0.2


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


def test_importing_the_index_costs_little_beyond_numpy() -> None:
    assert min(float(run(COST)) for _ in range(5)) <= MAX_CPU_S


def test_importing_the_index_loads_no_heavy_library() -> None:
    loaded = set(run(LOADED).split())
    assert "numpy" in loaded
    assert not loaded & {"torch", "dbos", "fastapi", "pydantic", "faiss", "PIL", "app", "model", "encoders"}
