"""Telling a damaged file, which is refused, from one that the system cannot read, which is an error."""

import zlib

import pyarrow as pa

from retrieval.reading.places import unreadable
from retrieval.reading.records import Format, Refusal


class DamagedFile(Exception):
    """A file of which no more can be read; the message says why."""


DAMAGE = (DamagedFile, EOFError, OSError, zlib.error, pa.ArrowException)
"""What reading a damaged file raises; some of it for other reasons too."""


def refuse_damage(url: str, format: Format, error: Exception, what_else: str = "") -> Refusal:
    """Return the refusal of a damaged file, or raise what is no fault of its content."""
    if isinstance(error, MemoryError):
        raise error
    # What the system says has a number.
    if isinstance(error, OSError) and error.errno is not None:
        raise unreadable(url, error) from error
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return Refusal("broken_file", format.damaged.format(reason=f"{reason}{what_else}"))
