"""What a run folder tells of its run from outside: its state, how far it is, and what happened last.

Only small files are read, and of `events.jsonl`, which grows all night, the end.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cluster.presence import Sitting, last_sitting
from cluster.rundir import read_metrics, read_run
from cluster.storage import Store
from jobs.happenings import Event, moment, read_tail
from synth.telling import KIND, REJECTED, Speed, Telling, read_telling

State = Literal["running", "finished", "failed", "stopped", "died", "not begun"]

NOTABLE = (
    "replica_waits", "replica_failed_to_start", "replica_lost", "replica_retires", "replica_given_up",
    "node_leaving", "index_refused", "stalled", "stopped", "failed",
)  # fmt: skip
NOTED = 6
"""Notable events that are kept, the last ones."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A run as it is seen from outside, at a moment in seconds since 1970."""

    run: str
    url: str
    at: float
    state: State
    sitting: Sitting | None
    doing: str
    """What a running one does; why another one ended."""
    method: str | None
    teacher: str | None
    telling: Telling | None
    told: float | None
    """When the telling was told."""
    counted: Literal["sitting", "run"]
    """What the telling's rows are counted over."""
    verdict: Mapping[str, Any]
    """Of a finished dataset: rows, wanted, stopped, stalled."""
    notable: Sequence[Event]
    read: int
    size: int

    def as_json(self) -> dict[str, Any]:
        """Return it for machines; ages are in seconds."""
        sitting, told = self.sitting, self.telling
        return {
            "run": self.run,
            "url": self.url,
            "state": self.state,
            "doing": self.doing,
            "method": self.method,
            "teacher": self.teacher,
            "driver": asdict(sitting) if sitting else None,
            "last_sign_seconds": round(self.at - sitting.beat, 1) if sitting else None,
            "synthesis": told.as_event() if told else None,
            "synthesis_age_seconds": round(self.at - self.told, 1) if self.told else None,
            "rows_counted_over": self.counted,
            "verdict": dict(self.verdict),
            "notable": list(self.notable),
            "events_read": {"bytes": self.read, "of": self.size},
        }


def look(store: Store, ledger: bool = False) -> Sight:
    """Look at a run; with ledger its rows are counted there, not taken from events: it takes longer."""
    record, sitting, metrics = read_run(store), last_sitting(store), read_metrics(store)
    tail = read_tail(store)
    resolved = record.get("resolved") or {}
    latest = _latest_sitting(tail.events)
    state = _state(sitting, latest)
    telling, told = _telling(tail.events, latest, metrics, state)
    curated = told is None and telling is not None
    if ledger:
        telling = replace(telling or Telling({}), rows=count_rows(store))
    return Sight(
        run=str(record.get("run") or store.url.rstrip("/").rpartition("/")[2]),
        url=store.url,
        at=time.time(),
        state=state,
        sitting=sitting,
        doing=_doing(latest) if state == "running" else _ending(latest, state),
        method=(resolved.get("method") or {}).get("name"),
        teacher=(resolved.get("teacher") or {}).get("model"),
        telling=telling,
        told=told,
        counted="run" if ledger or curated else "sitting",
        verdict=_verdict(metrics) if curated else {},
        notable=[event for event in tail.events if event.get("event") in NOTABLE][-NOTED:],
        read=tail.read,
        size=tail.size,
    )


def count_rows(store: Store) -> dict[str, int]:
    """Count the rows of the whole ledger by status, and rejections by reason."""
    import pyarrow.compute as pc

    from cluster.ledger import read_ledger

    counts: Counter[str] = Counter()
    for table in read_ledger(store, ("status", "reason")):
        for each in pc.value_counts(table["status"]).to_pylist():
            counts[each["values"]] += each["counts"]
        rejected = table.filter(pc.equal(table["status"], "rejected"))
        for each in pc.value_counts(rejected["reason"]).to_pylist():
            counts[f"{REJECTED}{each['values']}"] += each["counts"]
    return dict(counts)


def _latest_sitting(events: Sequence[Event]) -> Sequence[Event]:
    starts = [n for n, event in enumerate(events) if event.get("event") == "started"]
    return events[starts[-1] :] if starts else events


def _state(sitting: Sitting | None, latest: Sequence[Event]) -> State:
    if sitting is None:
        return "not begun"
    if sitting.alive:
        return "running"
    last = latest[-1] if latest else {}
    if last.get("event") == "ended":
        return "finished"
    if last.get("event") == "failed":
        return "stopped" if str(last.get("reason")).startswith("KeyboardInterrupt") else "failed"
    return "stopped" if sitting.released else "died"


def _telling(
    events: Sequence[Event], latest: Sequence[Event], metrics: Mapping[str, Any], state: State
) -> tuple[Telling | None, float | None]:
    """Return how far the run is and when that was told; without a moment it is the final account."""
    told = next((event for event in reversed(events) if event.get("event") == KIND), None)
    made = next((event for event in reversed(events) if event.get("event") == "synthesized"), None)
    final = "dataset" in metrics and (told is None or (made is not None and moment(made) >= moment(told)))
    if final or told is None:
        return (_curated(metrics) if final else None), None
    telling = read_telling(told)
    if state != "running" or told not in latest:
        # What worked then works no more.
        telling = replace(
            telling, now=None, replicas=0, running=0, waiting=0, seats=0, gpu=None, eta_seconds=None
        )
    return telling, moment(told)


def _curated(metrics: Mapping[str, Any]) -> Telling:
    """Return the final account of a dataset as a telling."""
    dataset, synthesis = metrics["dataset"], metrics.get("synthesis") or {}
    rows, target = synthesis.get("rows") or {}, dataset.get("target")
    rejected, seconds = rows.get("rejected") or {}, synthesis.get("seconds") or 0.0
    prompt, reply = synthesis.get("prompt_tokens") or 0, synthesis.get("reply_tokens") or 0
    accepted = rows.get("accepted", 0)
    speeds = (count / seconds for count in (accepted, prompt, reply)) if seconds else ()
    counts = {"accepted": accepted, "rejected": sum(rejected.values())}
    return Telling(
        kept=dataset.get("per_label") or {},
        targets=target if isinstance(target, dict) else {},
        rows=counts
        | {"failed": (synthesis.get("items") or {}).get("failed", 0)}
        | {f"{REJECTED}{reason}": count for reason, count in rejected.items()},
        surplus=dataset.get("surplus") or {},
        average=Speed(*speeds),
        restarts=synthesis.get("restarts", 0),
        prompt_tokens=prompt,
        reply_tokens=reply,
        costs=metrics.get("costs") or {},
    )


def _verdict(metrics: Mapping[str, Any]) -> dict[str, Any]:
    dataset, synthesis = metrics["dataset"], metrics.get("synthesis") or {}
    target = dataset.get("target")
    return {
        "rows": dataset.get("rows", 0),
        "wanted": sum(target.values()) if isinstance(target, dict) else None,
        "stopped": synthesis.get("stopped"),
        "stalled": synthesis.get("stalled") or {},
        "students": {
            name: scores.get("accuracy") for name, scores in (metrics.get("students") or {}).items()
        },
    }


def _doing(latest: Sequence[Event]) -> str:
    """Say what a run does, as far as its events tell."""
    steps = (
        *("started", "index", "index_ready", "tuned", KIND, "synthesized", "trained"),
        *("evaluated", "reported"),
    )
    last = next((event for event in reversed(latest) if event.get("event") in steps), {})
    match last.get("event"):
        case "index":
            return f"indexing: {last.get('step')} {last.get('done')}/{last.get('total')}"
        case "index_ready":
            return "the index is ready"
        case "tuned":
            return f"teacher {last.get('name')} is tuned"
        case "synthesis":
            return "writing rows" if last.get("replicas") else "waiting for a teacher to be loaded"
        case "synthesized":
            return "the dataset is made; what follows it is under way"
        case "trained":
            return f"student {last.get('student')} is trained"
        case "evaluated" | "reported":
            return "finishing"
    return "starting"


def _ending(latest: Sequence[Event], state: State) -> str:
    if state == "failed":
        return str(latest[-1].get("reason"))
    return {"stopped": "it was told to stop", "died": "its driver is gone without a word"}.get(state, "")
