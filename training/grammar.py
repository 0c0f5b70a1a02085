"""The grammar of conditions over the labels of students.

From weak to strong: `or`, `and`, `not`, then a name or parentheses. A name is a label, a student, or
`student:label`; one with spaces or signs stands in quotes.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import SettingsError
from training.condition import And, Condition, Literal, Not, Or

MOST_CHARACTERS = 10_000
"""Of a condition; it also bounds how deeply parentheses are nested."""
_DEEPEST = 100
_TOKEN = re.compile(
    r"""\s*(?:(?P<sign>[():])|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s():"']+))"""
)
_NEGATIVE = frozenset({"other", "others", "no", "none", "false", "0", "not"})
"""Labels that say of a student with two labels that the other one is what it looks for."""


def parse(text: str, students: Mapping[str, Sequence[str]]) -> Condition:
    """Read a condition over students and their labels; SettingsError shows where it is wrong.

    A bare label has to be one of a single student. A bare student stands for its label of the same name, or,
    of two labels, for the one that is not `other`, `no`, `none` or the like.
    """
    return _Parser(text, students).parse()


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    position: int
    quoted: bool = False

    def means(self, word: str) -> bool:
        return not self.quoted and self.text.lower() == word


class _Parser:
    """Recursive descent, one method for each rule of the grammar."""

    def __init__(self, text: str, students: Mapping[str, Sequence[str]]) -> None:
        self._text = text
        self._students = students
        self._depth = 0
        if len(text) > MOST_CHARACTERS:
            raise SettingsError(
                f"condition: has {len(text):,} characters, at most {MOST_CHARACTERS:,} are read"
            )
        self._tokens = list(self._cut())
        self._at = 0

    def parse(self) -> Condition:
        if not self._tokens:
            raise self._wrong(0, "is empty; name a label, for example positive and not spam")
        found = self._or()
        if (extra := self._next) is not None:
            raise self._wrong(extra.position, f"expected and, or, or the end, found {extra.text!r}")
        return found

    def _or(self) -> Condition:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self) -> Condition:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _not(self) -> Condition:
        negations = 0
        while self._take("not"):
            negations += 1
        found = self._one()
        return Not(found) if negations % 2 else found

    def _one(self) -> Condition:
        opening = self._next
        if not self._take("("):
            return self._name()
        self._depth += 1
        if opening is not None and self._depth > _DEEPEST:
            raise self._wrong(opening.position, f"has over {_DEEPEST} parentheses in one another")
        found = self._or()
        if not self._take(")"):
            place = self._next.position if self._next else len(self._text)
            raise self._wrong(place, "expected )")
        self._depth -= 1
        return found

    def _name(self) -> Literal:
        first = self._word("a label, a student, not or (")
        if not self._take(":"):
            return self._bare(first)
        second = self._word(f"a label of student {first.text}")
        student = self._match(first, self._students, "student")
        return Literal(student, self._match(second, self._students[student], f"label of student {student}"))

    def _word(self, wanted: str) -> _Token:
        token = self._next
        if token is None:
            raise self._wrong(len(self._text), f"expected {wanted}, found the end")
        if not token.quoted and (token.text in "():" or token.text.lower() in ("and", "or", "not")):
            raise self._wrong(token.position, f"expected {wanted}, found {token.text!r}")
        self._at += 1
        return token

    def _bare(self, token: _Token) -> Literal:
        """Find what a name without a student means."""
        name = token.text
        for same in (str.__eq__, lambda one, other: one.casefold() == other.casefold()):
            found = [
                Literal(student, label)
                for student, labels in self._students.items()
                for label in labels
                if same(label, name)
            ]
            if len(found) > 1:
                choices = " or ".join(map(str, found))
                raise self._wrong(token.position, f"{name!r} is a label of several students; write {choices}")
            if found:
                return found[0]
        if name in self._students:
            return Literal(name, self._wanted(token))
        labels = [label for each in self._students.values() for label in each]
        raise self._wrong(
            token.position, f"{name!r} is no label and no student{_near(name, labels)}; {self._all()}"
        )

    def _wanted(self, token: _Token) -> str:
        """Return the label that a student looks for."""
        labels = self._students[token.text]
        wanted = [label for label in labels if not _is_negative(label, token.text)]
        if len(labels) == 2 and len(wanted) == 1:
            return wanted[0]
        choices = " or ".join(f"{token.text}:{label}" for label in labels)
        raise self._wrong(token.position, f"student {token.text!r} has several labels; write {choices}")

    def _match(self, token: _Token, known: Mapping[str, Sequence[str]] | Sequence[str], what: str) -> str:
        names = list(known)
        if token.text in names:
            return token.text
        alike = [name for name in names if name.casefold() == token.text.casefold()]
        if len(alike) == 1:
            return alike[0]
        raise self._wrong(
            token.position,
            f"{token.text!r} is no {what}{_near(token.text, names)}; there are {', '.join(names)}",
        )

    @property
    def _next(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, word: str) -> bool:
        if self._next is None or not self._next.means(word):
            return False
        self._at += 1
        return True

    def _cut(self) -> Iterator[_Token]:
        at = 0
        while self._text[at:].strip():
            found = _TOKEN.match(self._text, at)
            if found is None:
                quote = at + len(self._text[at:]) - len(self._text[at:].lstrip())
                raise self._wrong(quote, "a quote is never closed")
            kind = str(found.lastgroup)
            yield _Token(found[kind], found.start(kind), kind in ("double", "single"))
            at = found.end()

    def _all(self) -> str:
        listed = [f"{student} ({', '.join(labels)})" for student, labels in self._students.items()]
        return f"the students are {'; '.join(listed)}"

    def _wrong(self, position: int, message: str) -> SettingsError:
        return SettingsError(f"condition: {message}\n  {self._text}\n  {' ' * position}^")


def _is_negative(label: str, student: str) -> bool:
    name, own = label.casefold(), student.casefold()
    return name in _NEGATIVE or name in {
        f"{sign}{gap}{own}" for sign in ("no", "not", "non") for gap in "_- "
    }


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
