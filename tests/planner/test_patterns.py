"""Patterns mean the same to Python's re and to grep -E."""

from __future__ import annotations

import re
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from planner.commands import at_least, literal

TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)


def grep(pattern: str, line: str) -> bool:
    done = subprocess.run(
        ["grep", "-Eq", "-e", pattern], input=line + "\n", text=True, env={"LC_ALL": "C.UTF-8"}, check=False
    )
    assert done.returncode < 2
    return done.returncode == 0


@given(TEXTS)
def test_a_literal_matches_its_text_and_nothing_else(text: str) -> None:
    pattern = f"^{literal(text)}$"
    assert re.search(pattern, text)
    assert grep(pattern, text)
    assert not re.search(pattern, text + "x")


@given(st.integers(0, 10**13), st.integers(0, 10**13))
def test_at_least_matches_exactly_the_numbers_that_are(least: int, number: int) -> None:
    for candidate in (number, least, least + 1, max(least - 1, 0)):
        expected = candidate >= max(least, 1)
        assert bool(re.fullmatch(at_least(least), str(candidate))) == expected


@given(st.integers(0, 10**13))
def test_at_least_means_the_same_to_grep(least: int) -> None:
    pattern = f"^ *{at_least(least)}$"
    assert grep(pattern, f"  {max(least, 1)}")
    assert not grep(pattern, f"  {max(least, 1) - 1}")
