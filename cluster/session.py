"""Connecting to Ray, and sending a job to a cluster instead of running it here."""

import logging
import os
import shlex
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.errors import RunError, StorageError, UserError
from cluster.storage import Store, check_reach

ROOT = Path(__file__).parent.parent

_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # An explicit mode: left to itself Ray turns tokens on in some places and not in others.
    "RAY_AUTH_MODE": "token",
    # The new Parquet reader fails a whole execution when one node is lost while footers are read.
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    # Ray's own processes write warnings of theirs to the driver's terminal.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # An engine is a child of its replica: without this it outlives a replica that crashes, and keeps the GPU.
    "RAY_process_group_cleanup_enabled": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


def prepare_environment() -> None:
    """Set what Ray reads from the environment where the user has not set it; call before ray is imported."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster at address, to the one this job runs in, or to a new one on this machine."""
    prepare_environment()
    import ray
    from ray.exceptions import AuthenticationError

    if ray.is_initialized():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    local = address is None and "RAY_ADDRESS" not in os.environ
    _ensure_token(local)
    try:
        ray.init(
            address="local" if local else address,
            include_dashboard=True if local else None,
            logging_level=logging.WARNING,
            log_to_driver=bool(os.environ.get("NIGHTSHIFT_WORKER_LOGS")),
            configure_logging=True,
            runtime_env=None if local or in_job() else _code(),
        )
        # Ray puts a handler of its own in place of the caller's.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        raise UserError(
            f"--address {address or os.environ.get('RAY_ADDRESS')}: no Ray cluster could be joined "
            f"({str(error).splitlines()[0]}); check the address and RAY_AUTH_TOKEN"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def submit(address: str, module: str, arguments: Sequence[str]) -> int:
    """Send `python -m module arguments` to a job server, follow its output, return its exit code."""
    prepare_environment()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        job = client.submit_job(
            entrypoint=shlex.join(["python", "-m", module, *arguments]), runtime_env=_code()
        )
    except AuthenticationError as error:
        raise UserError(
            f"--submit {address}: the job server refuses the token; set RAY_AUTH_TOKEN, or "
            "RAY_AUTH_TOKEN_PATH, to the cluster's"
        ) from error
    except (ConnectionError, RuntimeError) as error:
        raise UserError(f"--submit {address}: {str(error).splitlines()[0]}") from error
    print(f"submitted {job} to {address}", file=sys.stderr)
    try:
        return _follow(client, job)
    except KeyboardInterrupt:
        print(f"\n{job} goes on; end it with: ray job stop --address {address} {job}", file=sys.stderr)
        return 1
    except (ConnectionError, RuntimeError) as error:
        raise RunError(
            f"--submit {address}: the link to {job} broke ({str(error).splitlines()[0]}), the job goes on; "
            f"see: ray job status --address {address} {job}"
        ) from error


def _follow(client: Any, job: str) -> int:
    """Print a job's output until it ends, and return its exit code."""
    import asyncio

    async def show() -> None:
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)

    asyncio.run(show())
    while not client.get_job_status(job).is_terminal():
        # The output may end before the job's state is written.
        time.sleep(1)
    info = client.get_job_info(job)
    if info.driver_exit_code is None:
        raise RunError(f"{job} ended as {client.get_job_status(job)}: {info.message}")
    return int(info.driver_exit_code)


def in_job() -> bool:
    """Say whether a job server started this process."""
    # The job server ships the working directory itself and leaves the job's configuration in this variable.
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def _code() -> dict[str, object]:
    """Ship this tree to the workers, without what git and Ray ignore."""
    return {"working_dir": str(ROOT), "excludes": [".git", ".venv", "runs", "tests", "benchmarks"]}


def _ensure_token(local: bool) -> None:
    """Have a token for a cluster of our own, kept in this process and its children alone."""
    known = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if local and os.environ["RAY_AUTH_MODE"] == "token" and not known:
        import secrets

        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def check_shared(store: Store) -> None:
    """Raise StorageError when a node of the cluster does not see what this process writes to a store."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return
    probe = f".probe-{uuid.uuid4().hex}"
    store.write(probe, b"")
    look: Any = ray.remote(num_cpus=0, max_retries=0)(_unseen)
    seen = [
        look.options(scheduling_strategy=On(node["NodeID"], soft=False)).remote(store, probe)
        for node in nodes
    ]
    try:
        for node, answer in zip(nodes, seen, strict=True):
            try:
                reason = ray.get(answer, timeout=60)
            except ray.exceptions.RayError:
                continue  # The node is gone, though the list of nodes does not know it yet.
            if reason:
                raise StorageError(f"store {store.url}: node {node['NodeManagerAddress']} {reason}")
    finally:
        store.delete(probe)


def _unseen(store: Store, probe: str) -> str:
    """Return why this node does not see the probe in a store; empty when it does."""
    try:
        check_reach(store)
        if store.exists(probe):
            return ""
    except StorageError as error:
        return f"cannot read it ({error}); every node needs the network and the credentials for it"
    return (
        "does not see it; give a folder that all nodes share, or s3://BUCKET/PREFIX, with --set store=PLACE"
    )
