"""Rows a second with 1, 2, 4 and 8 replicas of a teacher that is slow to answer and costs no CPU.

python -m benchmarks.scaling [--replicas 1 2 4 8] [--rounds 3] [--json FILE]

The teacher waits as one behind a network does, each reply for a time of its own; what is measured is whether
planner, pool and ledger keep many replicas as busy as one. Every number of replicas runs in a process and a
Ray of its own, in turn. Only the steady state counts: from the moment the last replica has brought its first
rows, and one longest reply after it, until the last item is handed out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.claims import Claim, write_claims

GOAL = 0.95
SPREAD = 0.5
SECONDS_TO_START = 5.0
"""Allowed for every replica to start on two cores; those that are ready work meanwhile."""


def main() -> None:
    """Measure, print and write."""
    options = _options()
    if options.one is not None:
        print(json.dumps(_run(options.one, options)))
        return
    measured: dict[int, list[dict[str, float]]] = {replicas: [] for replicas in options.replicas}
    for _ in range(options.rounds):
        for replicas in options.replicas:
            result = _measure(replicas, options)
            measured[replicas].append(result)
            print(
                f"{replicas} replicas: {result['rate']:8.2f} rows/s over {result['seconds']:.1f} s",
                file=sys.stderr,
            )
    first, last = options.replicas[0], options.replicas[-1]
    # Within a round, because other work on the machine comes and goes between rounds.
    efficiency = {
        replicas: statistics.median(
            many["rate"] * first / (one["rate"] * replicas)
            for one, many in zip(measured[first], results, strict=True)
        )
        for replicas, results in measured.items()
    }
    for replicas, value in efficiency.items():
        print(f"efficiency with {replicas} replicas: {value:.3f}")
    details: dict[str, Any] = {
        "efficiency": efficiency,
        "rounds": measured,
        "rows_per_second": {n: statistics.median(each["rate"] for each in measured[n]) for n in measured},
        "rows_per_second_at_best": {n: n * options.in_flight / options.seconds for n in measured},
        "in_flight": options.in_flight,
        "reply_seconds": [options.seconds * (1 - SPREAD), options.seconds * (1 + SPREAD)],
    }
    name = f"rows/s with {last} replicas over {last / first:g} x rows/s with {first}"
    write_claims("scaling", {name: Claim(efficiency[last], GOAL)}, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--replicas", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=1.5, help="a reply takes half of it more or less")
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--window", type=float, default=20.0, help="seconds of steady state, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(replicas: int, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", str(replicas)]
    command += ["--seconds", str(options.seconds), "--in-flight", str(options.in_flight)]
    command += ["--window", str(options.window)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _run(replicas: int, options: argparse.Namespace) -> dict[str, float]:
    from benchmarks.night import DistantSettings, assigned, demo_task, watch
    from cluster.session import connected
    from synth.methods.fewgen import FewGenSettings

    task = demo_task()
    teacher = DistantSettings(
        replicas=replicas,
        in_flight=options.in_flight,
        seconds=options.seconds,
        spread=SPREAD,
        num_cpus=0.1,
    )
    longest = options.seconds * (1 + SPREAD)
    span = options.window + 2 * longest + SECONDS_TO_START * replicas
    rows = ceil(replicas * options.in_flight / options.seconds * span / len(task.labels))
    with tempfile.TemporaryDirectory() as folder, connected(None):
        clock = watch(
            assigned(task, FewGenSettings(), teacher), dict.fromkeys(task.labels, rows), Path(folder) / "run"
        )
    begun, ended = max(clock.first_settled.values()) + longest, clock.handed[-1]
    worked, seconds = len(clock.first_settled), max(0.0, ended - begun)
    if worked != replicas or seconds < options.window / 4:
        raise SystemExit(
            f"{worked} of {replicas} replicas worked, {seconds:.1f} s of them together; raise --window on a "
            "machine that starts replicas slowly"
        )
    count = sum(items for moment, items in clock.settled if begun < moment <= ended)
    return {"rate": count / seconds, "seconds": seconds, "rows": count}


if __name__ == "__main__":
    main()
