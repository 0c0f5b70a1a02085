"""A user's own method: one Python file outside the project, named in the recipe as `method.file`."""

import hashlib
import sys
from importlib.abc import ExecutionLoader
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cluster.errors import SettingsError
from cluster.settings import validate

if TYPE_CHECKING:
    from synth.method import MethodSettings

_PREFIX = "nightshift_method_"


def own_method(path: Path, data: dict[str, Any]) -> "MethodSettings":
    """Return the settings of the method that a file defines, validated; SettingsError says what is wrong."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"method.file: {path}: cannot be read ({error}); check the path") from error
    return validate(_settings_of(source, str(path)), data, "method")


def source_of(settings: "MethodSettings") -> str | None:
    """Return the text of the file that defines a method; None for the methods of the project."""
    module = sys.modules.get(type(settings).__module__)
    source = getattr(module, "__source__", None)
    return source if isinstance(source, str) else None


def from_source(source: str, place: str, data: dict[str, Any]) -> "MethodSettings":
    """Make a method's settings in another process, which may not see the file."""
    return _settings_of(source, place).model_validate(data)


def _settings_of(source: str, place: str) -> "type[MethodSettings]":
    from synth.method import MethodSettings

    module = _module(source, place)
    found = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, MethodSettings) and each.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise SettingsError(
            f"method.file: {place}: defines {len(found)} subclasses of MethodSettings; it must define one"
        )
    return found[0]


class _Text(ExecutionLoader):
    """Loads a module from a text that was read elsewhere, perhaps on another node."""

    def __init__(self, source: str, place: str) -> None:
        self._source = source
        self._place = place

    def get_source(self, fullname: str) -> str:
        return self._source

    def get_filename(self, fullname: str) -> str:
        return self._place


def _module(source: str, place: str) -> ModuleType:
    """Run a file as a module, once for each content."""
    name = _PREFIX + hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    if name in sys.modules:
        return sys.modules[name]
    loader = _Text(source, place)
    module = sys.modules[name] = module_from_spec(ModuleSpec(name, loader, origin=place))
    module.__dict__.update(__file__=place, __source__=source)
    try:
        loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        line = getattr(error, "lineno", None) or _line(error, place)
        at = f"{place}:{line}" if line else place
        raise SettingsError(f"method.file: {at}: {type(error).__name__}: {error}") from error
    return module


def _line(error: BaseException, place: str) -> int | None:
    """Return the line of a file that raised an error."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == place:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
