"""Where a model setting leads: hub id, folder, `s3://…`, or file in an installed package; GGUF conversion."""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ModelError, StorageError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")
_SAMPLE = 1 << 20
_HUB_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that was found: a folder, or a hub id; gguf_file names the file of the folder to read.

    revision is the hub's commit, or a hash of configuration and weights as cheap as file sizes allow.
    """

    path: Path | str
    gguf_file: str | None
    revision: str

    @property
    def source(self) -> str:
        """What `from_pretrained` takes as its first argument."""
        return str(self.path)

    @property
    def arguments(self) -> dict[str, str]:
        """What `from_pretrained` takes besides: the GGUF file, or the hub commit."""
        if self.gguf_file:
            return {"gguf_file": self.gguf_file}
        return {"revision": self.revision} if isinstance(self.path, str) else {}


def resolve_model(name: str) -> ResolvedModel:
    """Find a model by its setting, without loading it; ModelError names the setting and the remedy."""
    if name.startswith("package:"):
        return _local(_in_package(name), name)
    if name.startswith("s3://"):
        return _local(_in_store(name), name)
    path = Path(name).expanduser()
    if is_there(path):
        return _local(path.absolute(), name)
    if "://" in name or name.startswith(("/", ".", "~")) or not _HUB_ID.fullmatch(name):
        raise ModelError(f"model {name}: there is no such folder or file; check the path")
    return _from_hub(name)


def known_everywhere(name: str) -> str:
    """Return a model's name as any node of the cluster finds it: a path made absolute, others as they are.

    What lies in packages, on the hub or in an object store may lie elsewhere on each node.
    """
    path = Path(name).expanduser()
    local = not (name.startswith("package:") or "://" in name) and is_there(path)
    return str(path.absolute()) if local else name


def converted_model(name: str, cache: Path | None = None) -> Path:
    """Return a folder that transformers and vLLM load as is, converting GGUF weights once per node.

    A converted model lies in the cache under the hash of its weights; other processes wait for the
    first one and then share its folder. A hub id is downloaded. Errors: ModelError.
    """
    model = resolve_model(name)
    if isinstance(model.path, str):
        return _download(name, model.revision)
    if model.gguf_file is None:
        return model.path
    target = (cache or model_cache()) / f"{Path(model.gguf_file).stem}-{model.revision}"
    if not target.exists():
        with _locked(target.with_name(f".{target.name}.lock")):
            if not target.exists():
                _convert(model, name, target)
    return target


def model_cache() -> Path:
    """Return the folder of converted models: `models` in NIGHTSHIFT_CACHE or in ~/.cache/nightshift."""
    root = os.environ.get("NIGHTSHIFT_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "nightshift") / "models"


def _in_package(name: str) -> Path:
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"model {name}: package {package!r} is not installed; install it on every node, "
            "or name a folder or a hub id instead"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    path = root / inside
    if not inside or not is_there(path):
        offered = sorted(p.name for p in root.iterdir() if p.is_dir() or p.suffix == ".gguf")
        shown = ", ".join(name for name in offered if not name.startswith("_")) or "no models"
        raise ModelError(f"model {name}: package {package!r} has no {inside or 'path'!r}; it holds {shown}")
    return path


def _in_store(name: str) -> Path:
    """Fetch a model from an object store to this node, unless it is here already."""
    # Stores keep what they fetch beside the converted models, and so import this module.
    from cluster.storage import place

    parent, _, last = name.rstrip("/").rpartition("/")
    try:
        return place(parent).fetch(last)
    except StorageError as error:
        raise ModelError(f"model {name}: cannot be fetched ({error})") from error


def _local(path: Path, name: str) -> ResolvedModel:
    if path.is_file():
        if path.suffix != ".gguf":
            raise ModelError(f"model {name}: is neither a folder nor a .gguf file")
        return ResolvedModel(path.parent, path.name, _hash_of([path]))
    if not (path / "config.json").is_file():
        gguf = sorted(p.name for p in path.glob("*.gguf"))
        hint = f"; name its file {gguf[0]}" if gguf else "; give the folder that save_pretrained wrote"
        raise ModelError(f"model {name}: the folder holds no config.json{hint}")
    weights = sorted(p for p in path.iterdir() if p.suffix in _WEIGHTS)
    if not weights:
        raise ModelError(f"model {name}: the folder holds no weights ({', '.join(_WEIGHTS)})")
    return ResolvedModel(path, None, _hash_of([path / "config.json", *weights]))


def _hash_of(files: list[Path]) -> str:
    # Whole weights would cost minutes for a large model: names, sizes and both ends tell them apart.
    content = hashlib.blake2b(digest_size=8)
    for path in files:
        size = path.stat().st_size
        content.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            content.update(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            content.update(file.read(_SAMPLE))
    return content.hexdigest()


def _from_hub(name: str) -> ResolvedModel:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    remedy = "check its spelling, or name a folder or `package:<import name>/<path>`"
    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except HFValidationError as error:
        raise ModelError(f"model {name}: is no name of a model; {remedy}") from error
    except LocalEntryNotFoundError:
        pass
    else:
        if (folder / "config.json").is_file():
            return ResolvedModel(name, None, folder.name)
    if constants.is_offline_mode():
        raise ModelError(f"model {name}: is not in the local cache and HF_HUB_OFFLINE is set; {remedy}")
    try:
        commit = HfApi().model_info(name, timeout=_HUB_SECONDS).sha
    except HfHubHTTPError as error:
        raise ModelError(
            f"model {name}: the model hub refuses it ({_first_line(error)}); {remedy}"
        ) from error
    except (OSError, OfflineModeIsEnabled, _network_error()) as error:
        raise ModelError(
            f"model {name}: is not in the local cache and the model hub cannot be reached "
            f"({_first_line(error)}); {remedy}"
        ) from error
    return ResolvedModel(name, None, commit or "main")


def _network_error() -> type[Exception]:
    import httpx2  # the client that huggingface_hub itself uses

    return httpx2.HTTPError


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _download(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, revision=revision))
    except (OSError, HfHubHTTPError, _network_error()) as error:
        raise ModelError(f"model {name}: the download failed ({_first_line(error)}); try again") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise ModelError(
            f"{path.parent}: converted models cannot be kept there ({error.strerror}); "
            "set NIGHTSHIFT_CACHE to a folder you may write"
        ) from error
    # The kernel drops the lock with the process, so a killed converter leaves nothing to clean.
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _convert(model: ResolvedModel, name: str, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        _save_plain(model, temporary)
        temporary.replace(target)
    except (OSError, ValueError, KeyError, ImportError, NotImplementedError) as error:
        raise ModelError(f"model {name}: cannot be converted from GGUF ({_first_line(error)})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save_plain(model: ResolvedModel, folder: Path) -> None:
    """Write GGUF weights as bf16 safetensors with a config that no longer speaks of quantisation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer: Any = AutoTokenizer.from_pretrained(model.source, gguf_file=model.gguf_file)
    read: Any = AutoModelForCausalLM.from_pretrained(
        model.source, gguf_file=model.gguf_file, dtype=torch.bfloat16
    )
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.eos_token_id = tokenizer.eos_token_id
    config.bos_token_id = tokenizer.bos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    plain: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = GenerationConfig.from_model_config(config)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def is_there(path: Path) -> bool:
    """Say whether a path exists; one that the file system refuses to look at does not."""
    try:
        return path.exists()
    except OSError:
        return False
