"""Row by row: what a storm left of a run, beside the plan and beside a calm run of the same plan."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cluster.lease import valid_parts
from cluster.ledger import read_part
from cluster.storage import LocalStore
from jobs.recipe import load_recipe
from synth.records import Item
from synth.task import load_task
from tests.chaos.runs import dataset, metrics

REASONS = {
    "die_on": ("its replica was lost",),
    "hang_on": ("its replica was lost",),
    "stall_on": ("no reply within",),
    "raise_on": ("the script says: fail",),
}
"""What the ledger says of an item that met its poison."""
_COMPARED = ("row_id", "position", "status", "reason", "labels", "text", "text_hash", "reply_tokens")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found; every list is empty after a run that lost and doubled nothing."""

    items: int
    """Items in the ledger."""
    failed: int
    """Items that were set aside, all of them poison."""
    lost: list[str]
    """Items that the dataset rests on and that no part holds."""
    doubled: list[str]
    """Items that are in more than one part that counts, or twice in one."""
    strangers: list[str]
    """Items that the plan has not, or not at this place."""
    wronged: list[str]
    """Innocent items that were set aside, with the reason."""
    spared: list[str]
    """Poison that was not set aside, or for another reason than its own."""
    different: list[str]
    """Items whose rows are not those of the calm run."""
    unbalanced: list[str]
    """Sums that do not add up."""
    same_dataset: bool

    def defects(self) -> dict[str, list[str]]:
        """Return what is not as it must be."""
        names = ("lost", "doubled", "strangers", "wronged", "spared", "different", "unbalanced")
        found = {name: getattr(self, name) for name in names if getattr(self, name)}
        return found if self.same_dataset else found | {"dataset": ["is not that of the calm run"]}


def planned(recipe: Path, count: int) -> list[Item]:
    """Return the first items of a recipe's plan."""
    settings = load_recipe(recipe)
    method = settings.method.build(load_task(settings.task, recipe.parent))
    return [slot.build() for slot in islice(method.plan({}, 0, {}), count)]


def judge(folder: Path, stormy: str, calm: str, poison: Mapping[str, str]) -> Verdict:
    """Compare two runs in a folder; poison gives for each kind of misdeed the seed text that calls it."""
    rows, there = _rows(folder, stormy)
    before, _ = _rows(folder, calm)
    plan = planned(folder / f"{stormy}.yaml", max(each[0]["position"] for each in rows.values()) + 1)
    by_id = {item.id: item for item in plan}
    kept = dataset(folder, stormy)
    failed = {item_id: each[0]["reason"] for item_id, each in rows.items() if each[0]["status"] == "failed"}
    guilty = {item.id: kind for item in plan if item.id in rows and (kind := _guilt(item, poison))}
    return Verdict(
        items=len(rows),
        failed=len(failed),
        lost=_lost(plan, rows, {row_id.rpartition("-")[0] for row_id, _, _ in kept}),
        doubled=[item_id for item_id, count in there.items() if count > 1],
        strangers=[
            item_id
            for item_id, each in rows.items()
            if item_id not in by_id or by_id[item_id].position != each[0]["position"]
        ],
        wronged=[f"{item_id}: {reason}" for item_id, reason in failed.items() if item_id not in guilty],
        spared=[
            f"{item_id} ({kind}): {failed.get(item_id)}"
            for item_id, kind in guilty.items()
            if not any(reason in failed.get(item_id, "") for reason in REASONS[kind])
        ],
        different=[
            item_id
            for item_id in rows.keys() & before.keys() - failed.keys()
            if _compared(rows[item_id]) != _compared(before[item_id])
        ],
        unbalanced=_unbalanced(metrics(folder, stormy)["synthesis"], rows, len(kept)),
        same_dataset=kept == dataset(folder, calm),
    )


def _rows(folder: Path, run: str) -> tuple[dict[str, list[dict[str, Any]]], Counter[str]]:
    """Return the rows of every item, and how often it is there: parts that hold it, rows of it that recur.

    The parts are read one by one as they lie there, for readers of a ledger pass over what comes twice.
    """
    store = LocalStore(folder / "store" / run)
    rows: dict[str, list[dict[str, Any]]] = {}
    there = Counter[str]()
    for key in valid_parts(store):
        part: dict[str, list[dict[str, Any]]] = {}
        for row in read_part(store, key).to_pylist():
            part.setdefault(row["item_id"], []).append(row)
        for item_id, each in part.items():
            there[item_id] += 1 + len(each) - len({row["row_id"] for row in each})
            rows.setdefault(item_id, each)
    return rows, there


def _lost(plan: Iterable[Item], rows: Mapping[str, Any], kept: set[str]) -> list[str]:
    """Return the items without a row that stand, in the plan, before the last row of their label."""
    last: dict[tuple[str, ...], int] = {}
    items = list(plan)
    for item in items:
        if item.id in kept:
            last[item.labels] = item.position
    return [item.id for item in items if item.position <= last.get(item.labels, -1) and item.id not in rows]


def _guilt(item: Item, poison: Mapping[str, str]) -> str | None:
    kinds = (kind for kind, text in poison.items() if any(shot.text == text for shot in item.shots))
    return next(kinds, None)


def _compared(rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [[row[name] for name in _COMPARED] for row in sorted(rows, key=lambda row: int(row["piece"]))]


def _unbalanced(told: Mapping[str, Any], rows: Mapping[str, list[dict[str, Any]]], kept: int) -> list[str]:
    """Compare what the run told with what its ledger holds."""
    status = Counter(row["status"] for each in rows.values() for row in each)
    items, returned = told["items"], told["rows"]
    sums = {
        "drawn = settled + failed + unfinished": (
            items["drawn"],
            items["settled"] + items["failed"] + items["unfinished"],
        ),
        "settled + failed = items in the ledger": (items["settled"] + items["failed"], len(rows)),
        "failed = failed rows": (items["failed"], status["failed"]),
        "returned = accepted + rejected": (returned["returned"], status["accepted"] + status["rejected"]),
        "accepted = kept + surplus": (status["accepted"], kept + sum(returned["surplus"].values())),
    }
    return [f"{name}: {left} is not {right}" for name, (left, right) in sums.items() if left != right]
