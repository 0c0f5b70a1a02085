"""What is said of an endpoint that refuses: which setting to mend, and never a key."""

import re
from dataclasses import dataclass
from http import HTTPStatus

SHOWN = 300
"""Characters of an endpoint's own words that a message repeats."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests go, for messages that name the setting to mend."""

    address: str
    """base_url without what may be behind a question mark."""
    model: str
    key: str
    """Name of the environment variable."""
    has_key: bool

    def refused_key(self, status: int) -> str:
        """Say that the endpoint wants another key."""
        why = (
            f"the key in the environment variable {self.key} is not accepted; set the right one"
            if self.has_key
            else f"the environment variable {self.key} (teacher.key) is not set on the replica's node; set it"
        )
        return f"{self.address} answers {status} ({phrase(status)}): {why} there, or mend teacher.base_url"

    def unpaid(self, said: str) -> str:
        """Say that there is no more money in the account."""
        return (
            f"{self.address}: the account of the key in {self.key} has nothing left to spend ({said}); "
            "mend that, and the same command goes on from here"
        )

    def unknown_model(self, said: str) -> str:
        """Say that the endpoint does not have the model."""
        return f"{self.address} has no model {self.model!r} ({said}); mend teacher.model or teacher.base_url"

    def wrong_path(self, status: int, path: str, said: str) -> str:
        """Say that the endpoint has nothing at a path."""
        other = (
            "; an endpoint that takes chats alone needs method.render=chat, or teacher.api=chat"
            if path == "/completions"
            else ""
        )
        return (
            f"{self.address}{path} answers {status} ({said}); mend teacher.base_url, which usually "
            f"ends in /v1, or teacher.model{other}"
        )

    def moved(self, status: int, target: str) -> str:
        """Say that the endpoint sends elsewhere: following it could give the key to a stranger."""
        return f"{self.address} answers {status} and points to {target}; set teacher.base_url to where it is"


def phrase(status: int) -> str:
    """Return the usual name of an HTTP status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no usual status"


class Scrub:
    """Takes a key, and any piece of it, out of an endpoint's own words, and shortens them to a line."""

    _LIKE_KEYS = re.compile(r"(?i)\b(?:bearer\s+\S+|(?:sk|pk|gsk|hf|xai|nvapi)[-_][\w*.-]{6,})")
    _PIECE, _WORD = 8, 5

    def __init__(self, key: str | None) -> None:
        # What local servers are given in place of a key may be any word.
        key = key if key and len(key) > self._WORD else ""
        self._pieces = {key[at : at + self._PIECE] for at in range(max(1, len(key) - self._PIECE + 1))} - {""}

    def __call__(self, text: str) -> str:
        """Return a text on one line, without keys."""
        text = self._LIKE_KEYS.sub("***", text)
        spans = [match for piece in self._pieces for match in re.finditer(re.escape(piece), text)]
        letters = list(text)
        for span in spans:
            letters[span.start() : span.end()] = "*" * (span.end() - span.start())
        line = " ".join("".join(letters).split())
        return "".join(letter if letter.isprintable() else "?" for letter in line)[:SHOWN]
