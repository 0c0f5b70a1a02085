"""Training rows: checked, hashed, tokenised once, and cut into padded batches."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError

if TYPE_CHECKING:
    import torch

Indices = npt.NDArray[np.int64]
_CHUNK = 4096
_GROUP = 4


@dataclass(frozen=True, slots=True)
class TokenisedTexts:
    """Token ids of n texts in one flat array; text i is `tokens[starts[i]:starts[i + 1]]`."""

    tokens: npt.NDArray[np.int32]
    starts: Indices
    pad_id: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self) -> Indices:
        """Return the number of tokens of every text."""
        return np.diff(self.starts)

    def padded(self, indices: Indices) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Return (token ids, attention mask) of some texts, each (texts, longest text) int64."""
        import torch

        longest = int((self.starts[indices + 1] - self.starts[indices]).max())
        tokens = np.full((len(indices), longest), self.pad_id, dtype=np.int64)
        mask = np.zeros_like(tokens)
        for row, index in enumerate(indices):
            text = self.tokens[self.starts[index] : self.starts[index + 1]]
            tokens[row, : len(text)] = text
            mask[row, : len(text)] = 1
        return torch.from_numpy(tokens), torch.from_numpy(mask)


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """What a student learns from: texts and the ids of their labels, (rows,) int64."""

    texts: TokenisedTexts
    targets: Indices

    def __len__(self) -> int:
        return len(self.targets)


def checked_rows(rows: pa.Table, labels: Sequence[str], name: str) -> pa.Table:
    """Return the columns id, text and label, all strings; DataError names what is wrong and in which row.

    Without an `id` column the position of a row becomes its id. `name` is the student's, for messages.
    """
    place = f"rows of student {name}"
    for column in ("text", "label"):
        if column not in rows.column_names or not pa.types.is_string(_value_type(rows[column])):
            raise DataError(f"{place}: need a column {column!r} of strings, found {_columns(rows)}")
    if rows.num_rows == 0:
        raise DataError(f"{place}: there are none; a student needs rows of at least two labels")
    positions = pa.array(map(str, range(rows.num_rows)), pa.string())
    ids = rows["id"] if "id" in rows.column_names else positions
    table = pa.table({"id": ids, "text": rows["text"], "label": rows["label"]}).cast(_SCHEMA)
    _check_labels(table, labels, place)
    empty = pc.indices_nonzero(pc.fill_null(pc.equal(pc.utf8_length(table["text"]), 0), True))
    if len(empty):
        raise DataError(f"{place}: the text of row {table['id'][empty[0].as_py()]} is empty; remove the row")
    return table.combine_chunks()


_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])


def _check_labels(table: pa.Table, labels: Sequence[str], place: str) -> None:
    found = set(pc.unique(table["label"]).to_pylist())
    unknown = sorted(str(label) for label in found - set(labels))
    if unknown:
        raise DataError(f"{place}: label {unknown[0]!r} is unknown; the task has {', '.join(labels)}")
    if len(found) < 2:
        raise DataError(f"{place}: all have the label {found.pop()!r}; a student needs at least two labels")


def _value_type(column: pa.ChunkedArray) -> pa.DataType:
    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def _columns(rows: pa.Table) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in rows.schema) or "no columns"


def rows_digest(rows: pa.Table) -> str:
    """Hash checked rows, in order, to 32 hexadecimal characters, however they are chunked."""
    content = hashlib.blake2b(digest_size=16)
    for batch in rows.to_batches(max_chunksize=_CHUNK):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            content.update(json.dumps(values, ensure_ascii=False).encode())
    return content.hexdigest()


def label_ids(rows: pa.Table, labels: Sequence[str]) -> Indices:
    """Return the position of every row's label in the task's order."""
    found = pc.index_in(rows["label"], value_set=pa.array(labels, pa.string()))
    return np.asarray(found.to_numpy(), dtype=np.int64)


def tokenise(texts: Sequence[str], tokenizer: Any, max_tokens: int) -> TokenisedTexts:
    """Tokenise texts, each cut after max_tokens, special tokens included."""
    pieces: list[npt.NDArray[np.int32]] = []
    for start in range(0, len(texts), _CHUNK):
        chunk = list(texts[start : start + _CHUNK])
        encoded = tokenizer(chunk, truncation=True, max_length=max_tokens, return_attention_mask=False)
        pieces += [np.asarray(ids, dtype=np.int32) for ids in encoded["input_ids"]]
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces], dtype=np.int64)])
    tokens = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32)
    return TokenisedTexts(tokens, starts.astype(np.int64), int(tokenizer.pad_token_id))


def shuffled_batches(texts: TokenisedTexts, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """Return the rows of each optimiser step of an epoch, the same on every worker and in every run.

    Rows are shuffled, then four batches at a time are ordered by length before they are cut, which saves
    most of the padding and keeps the batches random; their order is shuffled again.
    """
    random = np.random.default_rng([seed, epoch])
    order, lengths = random.permutation(len(texts)), texts.lengths()
    batches: list[Indices] = []
    for start in range(0, len(order), _GROUP * batch_size):
        group = order[start : start + _GROUP * batch_size]
        group = group[np.argsort(lengths[group], kind="stable")]
        batches += [group[cut : cut + batch_size] for cut in range(0, len(group), batch_size)]
    return [batches[position] for position in random.permutation(len(batches))]


def sorted_batches(texts: TokenisedTexts, chosen: Indices, batch_size: int) -> Iterator[Indices]:
    """Yield batches of the chosen texts, longest first, so that little is padded and memory peaks early."""
    order = chosen[np.argsort(-texts.lengths()[chosen], kind="stable")]
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
