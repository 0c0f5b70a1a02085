"""Families of settings that a recipe tells apart by one key (`method.name`, `teacher.backend`)."""

import importlib
import pkgutil
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field

from cluster.settings import Settings


def one_of(base: type[Settings], package: str, key: str) -> Any:
    """Return the field type that accepts every subclass of base defined in a module of a package.

    Adding a module to the package is all it takes to add a member.
    """
    folder = importlib.import_module(package)
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{package}.{module.name}")
    members = sorted(_leaves(base), key=lambda member: member.__name__)
    if len(members) == 1:
        return members[0]
    return Annotated[reduce(or_, members), Field(discriminator=key)]


def _leaves(base: type[Settings]) -> list[type[Settings]]:
    found = []
    for member in base.__subclasses__():
        found += _leaves(member) or [member]
    return found
