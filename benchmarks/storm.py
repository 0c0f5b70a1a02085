"""A night under fault injection: does the run lose, double or wrong anything, and do its books balance?

python -m benchmarks.storm [--rows 20000] [--seed 7] [--json FILE]

One run over a local cluster of three nodes is struck by 62 faults of twelve kinds, five or more of each, in
an order and at moments that the seed decides: replicas killed, stopped and frozen, engines dead or hung while
their actors live, memory that runs out, nodes killed or taken back after notice, drivers killed, the whole
cluster lost with its head; beside four prompts that kill, hang, stall or raise wherever they go. Then its
ledger is read row by row, beside the plan and beside a run of the same plan in calm weather.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.claims import Claim, write_claims
from tests.chaos.rehearsal import Rehearsal, rehearse
from tests.chaos.runs import LABELS

IN_FLIGHT = 32
REPLY_SECONDS = 0.3


def main() -> None:
    """Rehearse, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows_per_label = -(-options.rows // len(LABELS))
    with tempfile.TemporaryDirectory() as folder:
        found = rehearse(Path(folder), options.seed, rows_per_label, REPLY_SECONDS, in_flight=IN_FLIGHT)
    print(found.table())
    write_claims("storm", _claims(found), _details(found), options.json)


def _claims(found: Rehearsal) -> dict[str, Claim]:
    verdict = found.verdict
    wrong = {
        "items lost": verdict.lost,
        "items doubled": verdict.doubled,
        "items that the plan has not": verdict.strangers,
        "innocent items set aside": verdict.wronged,
        "poisoned items let through": verdict.spared,
        "items with other rows than in calm weather": verdict.different,
        "sums that do not balance": verdict.unbalanced,
    }
    return {
        "faults injected": Claim(found.faults, 50),
        "faults of the rarest kind": Claim(min(found.log.struck.values()), 5),
        "rows in the dataset": Claim(
            found.told["dataset"]["rows"], sum(found.told["dataset"]["target"].values())
        ),
        **{name: Claim(len(items), 0, "lower") for name, items in wrong.items()},
        "dataset is that of the calm run": Claim(float(verdict.same_dataset), 1),
    }


def _details(found: Rehearsal) -> dict[str, object]:
    return {
        "seed": found.seed,
        "faults": dict(sorted(found.log.struck.items())),
        "poison": dict(found.poison),
        "replicas_lost": dict(sorted(found.losses.items())),
        "driver_exit_codes": found.log.exits,
        "items": found.told["synthesis"]["items"],
        "rows": found.told["synthesis"]["rows"],
        "dataset": found.told["dataset"],
        "seconds": round(found.log.seconds, 1),
        "calm_seconds": round(found.calm_seconds, 1),
    }


if __name__ == "__main__":
    main()
