"""A cluster that a test starts for itself beside the Ray that the session shares."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray.experimental import internal_kv


@contextmanager
def beside_the_session() -> Iterator[None]:
    """Give Ray's client in this process back to the session's Ray when a test's own cluster is gone.

    A `Cluster` takes it over, and a client whose head is gone ends the process after a minute.
    """
    client, there = internal_kv.global_gcs_client, internal_kv._initialized
    try:
        yield
    finally:
        internal_kv.global_gcs_client, internal_kv._initialized = client, there
