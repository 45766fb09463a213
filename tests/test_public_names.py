"""The list of public names equals reality, in the package and in the README."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import holdfast
from holdfast import errors

FLAGS = re.DOTALL | re.MULTILINE
README = Path(__file__).parents[1] / "README.md"


def test_the_list_equals_the_names_that_are_there() -> None:
    """What `import holdfast` offers is what `__all__` says, submodules aside."""
    there = {name for name, value in vars(holdfast).items() if not isinstance(value, ModuleType)}
    assert {name for name in there if not name.startswith("_")} == set(holdfast.__all__)


def test_the_list_is_sorted() -> None:
    """Types come first, functions after them, each in alphabetical order."""
    assert holdfast.__all__ == sorted(holdfast.__all__)


def test_every_error_is_public() -> None:
    """A caller can catch each error of the tree by its name."""
    tree = {name for name, value in vars(errors).items() if is_error(value)}
    assert "HoldfastError" in tree
    assert tree <= set(holdfast.__all__)


@pytest.mark.parametrize("name", holdfast.__all__)
def test_the_readme_names_every_public_name(name: str) -> None:
    """Whoever reads the README has met everything that the package offers, as code."""
    assert name in names_in_code(README.read_text("utf-8")), f"README.md omits {name}"


def test_a_name_is_no_word_of_the_text() -> None:
    """Nor an attribute, nor a part of another name."""
    text = "Begin a field. `x.begin_each(field_of)`\n```python\n# field\nstaged.begin()\n```\n"
    assert {"field", "begin"}.isdisjoint(names_in_code(text))
    assert names_in_code("`field`, `begin(…)`\n") >= {"field", "begin"}


def names_in_code(markdown: str) -> set[str]:
    """The names in code spans and Python blocks, but for comments, and attributes of others."""
    blocks = re.findall(r"^```python\n(.*?)^```$", markdown, FLAGS)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", markdown, flags=FLAGS))
    code = re.sub(r"#.*", "", "\n".join(blocks + spans))
    return set(re.findall(r"(?<![\w.])\w+", code))


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, errors.HoldfastError)
