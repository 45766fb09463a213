"""Draws text that a regular expression matches, for fields with a pattern."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from importlib import import_module
from random import Random
from typing import Any

MAX_REPEATS = 4
MAX_TRIES = 20

_PRINTABLE = string.ascii_letters + string.digits + "-_ ."
_CATEGORIES = {
    "CATEGORY_DIGIT": string.digits,
    "CATEGORY_WORD": string.ascii_letters + string.digits + "_",
    "CATEGORY_SPACE": " \t",
    "CATEGORY_NOT_DIGIT": string.ascii_letters,
    "CATEGORY_NOT_WORD": "-. ",
    "CATEGORY_NOT_SPACE": string.ascii_letters,
}


def text_of(pattern: str, low: int, high: int | None) -> Callable[[Random], str] | None:
    """Return what draws text that a pattern matches, within a length; None where none is found.

    It reads the pattern as the standard library parses it, and knows no look-around and no
    references back to groups.
    """
    parsed = list(import_module("re._parser").parse(pattern))

    def draw(random: Random) -> str:
        for _ in range(MAX_TRIES):
            text = _sequence(random, parsed)
            fits = len(text) >= low and (high is None or len(text) <= high)
            if fits and re.search(pattern, text):
                return text
        raise ValueError(f"no text of {low} to {high} characters was found for {pattern!r}")

    try:
        draw(Random(0))
    except ValueError:
        return None
    return draw


def _sequence(random: Random, parts: Any) -> str:
    return "".join(_part(random, f"{code}", argument) for code, argument in parts)


def _part(random: Random, code: str, argument: Any) -> str:  # noqa: PLR0911 (a case a code)
    match code:
        case "LITERAL":
            return chr(argument)
        case "NOT_LITERAL":
            return random.choice(_PRINTABLE.replace(chr(argument), ""))
        case "ANY":
            return random.choice(_PRINTABLE)
        case "IN":
            return random.choice(_characters(argument))
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            low, high, repeated = argument
            count = random.randint(low, min(int(high), low + MAX_REPEATS))
            return "".join(_sequence(random, repeated) for _ in range(count))
        case "SUBPATTERN":
            return _sequence(random, argument[3])
        case "BRANCH":
            return _sequence(random, random.choice(argument[1]))
        case "AT":
            return ""
        case _:
            raise ValueError(f"{code} is not understood")


def _characters(parts: Any) -> str:
    """Return the characters of a set, those that can be printed where it excludes some."""
    found = ""
    for code, argument in parts:
        match f"{code}":
            case "LITERAL":
                found += chr(argument)
            case "RANGE":
                found += "".join(
                    map(chr, range(argument[0], min(argument[1], argument[0] + 99) + 1))
                )
            case "CATEGORY":
                found += _CATEGORIES[f"{argument}"]
            case _:
                pass
    if f"{parts[0][0]}" == "NEGATE":
        return "".join(character for character in _PRINTABLE if character not in found)
    return found
