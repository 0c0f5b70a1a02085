"""What the tests of Bedrock share: credentials that mean nothing, and a server of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bedrock_endpoint import BedrockEndpoint, bedrock_endpoint, use_credentials


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_credentials(monkeypatch, tmp_path)


@pytest.fixture
def server() -> Iterator[BedrockEndpoint]:
    with bedrock_endpoint() as made:
        yield made
