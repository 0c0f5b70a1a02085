import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from retrieval.encoder import token_batches


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 120))
def test_token_batches_hold_every_text_once_and_keep_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(token_batches(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


def test_importing_retrieval_loads_nothing_heavy() -> None:
    code = (
        "import sys, retrieval.index, retrieval.search, cluster.models; "
        "print([m for m in ('ray', 'torch', 'transformers', 'faiss', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
