"""A replica beside an engine whose compute threads are bound to cores."""

import os
import subprocess
import sys

import pytest

REPLICA = """
import os, subprocess, sys, threading
from synth.teachers.vllm_cores import keep_off_bound_cores

mine, theirs = os.sched_getaffinity(0), {int(core) for core in sys.argv[1].split()}
done, seen = threading.Event(), []
thread = threading.Thread(target=lambda: (done.wait(), seen.append(os.sched_getaffinity(0))))
thread.start()
with subprocess.Popen(["sleep", "60"]) as child:
    os.sched_setaffinity(child.pid, theirs)
    keep_off_bound_cores()
    child.kill()
done.set()
thread.join()
print(os.sched_getaffinity(0) == seen[0] == ((mine - theirs) or mine))
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize("bound", [1, None], ids=["one core", "all cores"])
def test_a_replica_leaves_the_cores_that_its_engine_is_bound_to(bound: int | None) -> None:
    cores = sorted(os.sched_getaffinity(0))[:bound]
    command = [sys.executable, "-c", REPLICA, " ".join(map(str, cores))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "True", done.stderr
