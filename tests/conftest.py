"""What every test shares: an environment set before anything is imported, one local Ray, the shared data."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="2",
    OMP_WAIT_POLICY="PASSIVE",
    RAY_AUTH_MODE="disabled",
    RAY_DATA_USE_DATASOURCE_V2="0",
    RAY_process_group_cleanup_enabled="1",
    RAY_USAGE_STATS_ENABLED="0",
    TOKENIZERS_PARALLELISM="false",
    VLLM_CPU_KVCACHE_SPACE="1",
)
# A cluster that the developer works with is none of the tests' business.
os.environ.pop("RAY_ADDRESS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `gpu` tests where there is no CUDA device; torch is loaded only if there are such tests."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def ray_local() -> Iterator[str]:
    """One Ray with two CPUs for the whole session; gives its address. A test leaves it running."""
    import ray

    # Ray Train asks the dashboard's state API about its workers, so the dashboard has to be there.
    context = ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=200 * 2**20,
        include_dashboard=True,
        log_to_driver=False,
        namespace="tests",
    )
    yield context.address_info["gcs_address"]
    context.disconnect()
    ray.shutdown()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of gold data beside the checkout."""
    path = Path(__file__).parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"no {path.name}/ beside the checkout")
    return path
