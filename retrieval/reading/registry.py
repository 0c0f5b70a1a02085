"""The formats that there are: one for each module of `retrieval.reading.formats`."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import lru_cache

from retrieval.reading import formats as package
from retrieval.reading.records import Format


@lru_cache(maxsize=1)
def formats() -> Mapping[str, Format]:
    """Return the formats by name; adding a module to the package is all it takes to add one."""
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    found: list[Format] = [importlib.import_module(f"{package.__name__}.{name}").FORMAT for name in names]
    return {each.name: each for each in found}
