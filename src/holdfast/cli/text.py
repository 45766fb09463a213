"""Makes text that comes from data fit to be shown: no character of it controls a terminal."""

from __future__ import annotations

import re

# Control characters, line separators, marks that reorder text, halves of surrogate pairs.
_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def count_of(number: int, noun: str) -> str:
    """Return how many there are of something: `1 order`, `1,000 orders`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def valid(text: str) -> str:
    """Return the text, with an escape for what in it is no character: bytes of a file's name."""
    return text.encode(errors="backslashreplace").decode()


def visible(text: str) -> str:
    """Return the text on one line, with an escape in place of what is not to be shown."""
    return _UNFIT.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def visible_json(text: str, *, lines: bool = False) -> str:
    """Return JSON that means the same, with JSON escapes; `lines` keeps its line ends."""
    return _UNFIT.sub(
        lambda match: "\n" if lines and match[0] == "\n" else f"\\u{ord(match[0]):04x}", text
    )
