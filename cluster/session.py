"""Connecting to Ray, and sending a job to a cluster instead of running it here."""

import logging
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

from cluster.errors import RunError, UserError

ROOT = Path(__file__).parent.parent

_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # An explicit mode: left to itself Ray turns tokens on in some places and not in others.
    "RAY_AUTH_MODE": "token",
    # The new Parquet reader fails a whole execution when one node is lost while footers are read.
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    # Ray's own processes write warnings of theirs to the driver's terminal.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
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
    local = address is None and "RAY_ADDRESS" not in os.environ
    _ensure_token(local)
    try:
        ray.init(
            address="local" if local else address,
            include_dashboard=True if local else None,
            logging_level=logging.WARNING,
            log_to_driver=bool(os.environ.get("NIGHTSHIFT_WORKER_LOGS")),
            configure_logging=True,
            runtime_env=None if local or _in_job() else _code(),
        )
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
    from ray.job_submission import JobStatus, JobSubmissionClient

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
    import asyncio

    async def follow() -> None:
        async for lines in client.tail_job_logs(job):
            print(lines, end="")

    asyncio.run(follow())
    status = client.get_job_status(job)
    if status == JobStatus.SUCCEEDED:
        return 0
    code = client.get_job_info(job).driver_exit_code
    if code is None:
        raise RunError(f"--submit {address}: {job} ended as {status}: {client.get_job_info(job).message}")
    return int(code)


def _in_job() -> bool:
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


def is_remote(address: str) -> bool:
    """Say whether an address is a URL of a job server."""
    return urlparse(address).scheme in {"http", "https"}
