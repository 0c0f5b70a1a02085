"""The files of a corpus: found, told apart by their names, and hashed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cluster.errors import DataError
from retrieval.reading.hashes import hashes_of
from retrieval.reading.places import Found, files_at, open_file
from retrieval.reading.records import CorpusFile
from retrieval.reading.registry import formats
from retrieval.settings import CorpusSettings

__all__ = ["CorpusFile", "corpus_files", "unhashed_files"]

_DATASET = "state.json"
_DATASET_SPLITS = "dataset_dict.json"


def corpus_files(settings: CorpusSettings) -> list[CorpusFile]:
    """Return the files of a corpus in name order, with hashes; DataError when there is none to read."""
    chosen = _choose(settings)
    hashes = hashes_of([found for found, _ in chosen])
    return [replace(_as_file(*each), hash=value) for each, value in zip(chosen, hashes, strict=True)]


def unhashed_files(settings: CorpusSettings) -> list[CorpusFile]:
    """Return the files as `corpus_files` does, their hashes left empty: no file is read whole."""
    return [_as_file(*each) for each in _choose(settings)]


def _as_file(found: Found, format: str) -> CorpusFile:
    return CorpusFile(found.url, found.size, "", format)


def _choose(settings: CorpusSettings) -> list[tuple[Found, str]]:
    found = files_at(settings.path)
    if settings.format in ("auto", "dataset"):
        dataset = _saved_dataset(found, settings)
        if dataset is not None:
            return dataset
    if settings.format == "auto":
        chosen = [(file, name) for file in found if (name := _format(file.url))]
        # Beside data, a text file is a read-me or a licence.
        return _known([each for each in chosen if each[1] != "text"] or chosen, found, settings)
    endings = formats()[settings.format].endings
    alone = len(found) == 1 and found[0].url.rstrip("/").endswith(
        settings.path.rstrip("/").rpartition("/")[2]
    )
    chosen = [(file, settings.format) for file in found if alone or file.url.endswith(endings)]
    return _known(chosen, found, settings)


def _format(url: str) -> str:
    return next((name for name, each in formats().items() if url.endswith(each.endings)), "")


def _known(
    chosen: list[tuple[Found, str]], found: Sequence[Found], settings: CorpusSettings
) -> list[tuple[Found, str]]:
    if chosen:
        return chosen
    names = [settings.format] if settings.format != "auto" else list(formats())
    endings = ", ".join(ending for name in names for ending in formats()[name].endings)
    seen = f"; found {', '.join(file.below for file in found[:3])}" if found else ""
    raise DataError(f"corpus {settings.path}: no file ends in {endings}{seen}; convert it to one of these")


def _saved_dataset(found: Sequence[Found], settings: CorpusSettings) -> list[tuple[Found, str]] | None:
    """Return the files of a dataset that `save_to_disk` wrote, in its order; None when it is no dataset."""
    by_name = {file.below: file for file in found}
    if _DATASET_SPLITS in by_name:
        splits = ", ".join(_json(by_name[_DATASET_SPLITS]).get("splits", []))
        raise DataError(
            f"corpus {settings.path}: is a dataset with the splits {splits}; "
            "add the name of one to corpus.path, as a folder"
        )
    if _DATASET not in by_name:
        if settings.format == "dataset":
            raise DataError(
                f"corpus {settings.path}: holds no {_DATASET}; give the folder that save_to_disk wrote"
            )
        return None
    state = _json(by_name[_DATASET])
    if state.get("_indices_data_files"):
        raise DataError(
            f"corpus {settings.path}: is a selection of a dataset's rows; "
            "call flatten_indices() and save it anew"
        )
    names = [str(each.get("filename")) for each in state.get("_data_files", [])]
    missing = [name for name in names if name not in by_name]
    if missing or not names:
        raise DataError(
            f"corpus {settings.path}: {_DATASET} names {missing[0] if missing else 'no file'}, "
            "which is not there; copy the folder again"
        )
    return [(by_name[name], "arrow") for name in names]


def _json(file: Found) -> dict[str, Any]:
    with open_file(file.url) as data:
        try:
            content = json.loads(data.read())
        except ValueError as error:
            raise DataError(f"{file.url}: is not JSON ({error}); copy the folder again") from error
    return content if isinstance(content, dict) else {}
