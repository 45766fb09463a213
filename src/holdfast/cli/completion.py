"""Completes in bash what holds `:` and `=`, which bash takes for ends of words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from click.shell_completion import BashComplete, add_completion_class


def complete_in_bash() -> None:
    """Have bash complete as the other shells do."""
    add_completion_class(Bash)


class Bash(BashComplete):
    """Puts words together again, and no space behind a field name that awaits its value."""

    source_template: ClassVar[str] = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value); [[ $value == *= ]] && compopt -o nospace"
    )

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the whole words before the one that is being typed, and that one."""
        words, incomplete = super().get_completion_args()
        whole = _join([*words, incomplete] if incomplete else words)
        return (whole[:-1], whole[-1]) if incomplete and whole else (whole, "")


def _join(words: Iterable[str]) -> list[str]:
    whole: list[str] = []
    open_end = False
    for word in words:
        is_break = bool(word) and set(word) <= set(":=")
        if whole and (is_break or open_end):
            whole[-1] += word
        else:
            whole.append(word)
        open_end = is_break
    return whole
