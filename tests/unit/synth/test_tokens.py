"""A teacher's tokenizer: counting, cutting at tokens, and prompts that fit into the room there is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ModelError
from synth.prompting import chat
from synth.tokens import TeacherTokenizer

WORDS = ["[UNK]", "<s>", "</s>", "rain", "snow", "sun", "wind", ".", "user", "assistant", ":"]
TEMPLATE = """\
{% for turn in messages %}{{ turn.role }}: {{ turn.content }}
{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"""


def write(folder: Path, template: str | None) -> str:
    """A tokenizer of eleven words, as transformers saves one; a text starts with <s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", bos_token="<s>", eos_token="</s>"
    )
    made.chat_template = template
    made.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").touch()
    return str(folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TeacherTokenizer:
    return TeacherTokenizer(write(tmp_path_factory.mktemp("words"), TEMPLATE))


def words_of(tokenizer: TeacherTokenizer, ids: list[int]) -> str:
    text: str = tokenizer.inner.convert_ids_to_tokens(ids)
    return " ".join(text)


def test_tokens_are_counted_without_special_ones(tokenizer: TeacherTokenizer) -> None:
    assert [tokenizer.count(text) for text in ("", "rain", "Rain, snow. 雨")] == [0, 1, 5]


@given(
    words=st.lists(st.sampled_from(["rain", " snow", "\nsun.", "雨 ", "  wind"]), max_size=9),
    tokens=st.integers(1, 12),
)
def test_a_cut_text_is_a_prefix_with_as_many_tokens_as_allowed(
    tokenizer: TeacherTokenizer, words: list[str], tokens: int
) -> None:
    text = "".join(words)
    cut = tokenizer.cut(text, tokens)
    assert text.startswith(cut)
    assert tokenizer.count(cut) == min(tokens, tokenizer.count(text))
    assert cut == text or tokenizer.count(text) > tokens


def test_a_raw_prompt_starts_with_the_models_mark_and_a_chat_as_its_template_says(
    tokenizer: TeacherTokenizer,
) -> None:
    assert words_of(tokenizer, tokenizer.encode("rain snow", 9)) == "<s> rain snow"
    turns = chat([("rain", "snow")], "sun")
    assert tokenizer.as_text(turns) == "user: rain\nassistant: snow\nuser: sun\nassistant:"
    encoded = words_of(tokenizer, tokenizer.encode(turns, 99))
    assert encoded == "user : rain assistant : snow user : sun assistant :"


def test_a_prompt_too_long_for_the_room_loses_its_start(tokenizer: TeacherTokenizer) -> None:
    assert words_of(tokenizer, tokenizer.encode("rain snow sun wind", 2)) == "sun wind"
    assert words_of(tokenizer, tokenizer.encode(chat([("rain", "snow")], "sun"), 4)) == ": sun assistant :"


def test_a_prompt_that_is_counted_and_then_sent_is_tokenized_once(
    tokenizer: TeacherTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, seen = tokenizer.inner, list[str]()

    def counted(text: str, **more: object) -> object:
        seen.append(text)
        return inner(text, **more)

    monkeypatch.setattr(tokenizer, "inner", counted)
    assert len(tokenizer.ids("sun sun wind")) == 4
    first = tokenizer.encode("sun sun wind", 99)
    first.clear()
    assert len(tokenizer.encode("sun sun wind", 2)) == 2
    assert seen == ["sun sun wind"]


@pytest.mark.parametrize("room", [0, -3])
def test_no_room_for_a_prompt_is_an_error_that_names_the_setting(
    tokenizer: TeacherTokenizer, room: int
) -> None:
    with pytest.raises(ModelError, match=r"method\.sampling\.max_tokens leaves no room for a prompt"):
        tokenizer.encode("rain", room)


def test_a_chat_for_a_model_without_template_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    plain = TeacherTokenizer(write(tmp_path, None))
    assert plain.inner.pad_token == "</s>"
    with pytest.raises(ModelError, match=r"has no chat template; set method\.render=raw"):
        plain.as_text(chat([], "rain"))


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="absent"):
        TeacherTokenizer(str(tmp_path / "absent"))
