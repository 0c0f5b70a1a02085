import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu

# A process of its own: faiss-gpu and torch bring CUDA libraries of different versions.
SCRIPT = """
import json, sys, tempfile
from pathlib import Path
import faiss, numpy as np
from retrieval.rank import Filter
from retrieval.manifest import Structure
from retrieval.shards import search_shards
from tests.vector_layouts import build, clustered, lay_out, small

vectors = clustered(40_000, 64, clusters=200)
size = 64 if sys.argv[1] == "ivf_sq" else 16
structure = small(sys.argv[1], lists=256, code_bytes=size, probes=64, oversample=4)
found = []
with tempfile.TemporaryDirectory() as folder:
    for gpu in (True, False):
        if not gpu:
            faiss.get_num_gpus = lambda: 0
        store, layout = lay_out(Path(folder) / str(gpu), vectors, 5_000, 20_000, documents=False)
        build(store, layout, structure, vectors)
        found.append(search_shards(store, layout.shards, structure, vectors[:200], 50, Filter())[1])
    exact = search_shards(store, layout.shards, Structure(), vectors[:200], 50, Filter())[1]
recall = [float(np.mean([np.isin(e, f).mean() for e, f in zip(exact, rows)])) for rows in found]
print(json.dumps(recall))
"""


@pytest.mark.parametrize("kind", ["ivf_sq", "ivf_pq"])
def test_an_index_built_on_a_gpu_finds_what_one_built_on_a_cpu_finds(kind: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import faiss; print(faiss.get_num_gpus())"], capture_output=True, text=True
    )
    if int(ran.stdout or 0) == 0:
        pytest.skip("this FAISS has no GPU support")
    done = subprocess.run([sys.executable, "-c", SCRIPT, kind], capture_output=True, text=True, check=True)
    gpu, cpu = json.loads(done.stdout)
    assert gpu >= 0.95
    assert abs(gpu - cpu) < 0.02
