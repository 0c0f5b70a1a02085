"""Sixty faults of twelve kinds strike one run: it loses nothing, doubles nothing, and wrongs no innocent."""

import os
from pathlib import Path

import pytest

from tests.chaos.rehearsal import FAULTS, MISDEEDS, rehearse

# Ray leaves sockets of its own to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
SEED = int(os.environ.get("NIGHTSHIFT_STORM_SEED", "7"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_comes_through_a_storm_unharmed(tmp_path: Path) -> None:
    print(f"NIGHTSHIFT_STORM_SEED={SEED}")
    found = rehearse(tmp_path, SEED, rows_per_label=280, seconds=0.5)
    print(found.table())
    assert not found.verdict.defects()
    assert found.log.struck == FAULTS
    assert found.faults >= 50
    assert min(found.log.struck.values()) >= 5
    assert found.verdict.failed >= sum(MISDEEDS.values())
    assert found.log.exits[-1] == 0
    assert all(found.log.exits[:-1])
