"""The example specs: each says what it shows, is known to editors, and can be planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.compile import compile_plan, offline_facts
from planner.facts import Facts, facts_from_json
from planner.plan import Plan
from schema.read import read_json, read_specs

SPECS = Path(__file__).parents[1] / "specs"
FACTS = sorted((SPECS / "facts").glob("*.json"))
EXAMPLES = sorted(SPECS.glob("*.yaml"))
every = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
MODELINE = "# yaml-language-server: $schema=../schema/snapshot.schema.json"


def hosts() -> list[Facts]:
    return [facts_from_json(read_json("facts", path.read_bytes(), path.name)) for path in FACTS]


def plans(path: Path) -> list[Plan]:
    """Return the plan of each snapshot of an example, over each recorded host, or offline where it says so."""
    specs = read_specs(path.read_bytes(), path.name)
    if "# facts: none; plan it with --offline" in path.read_text():
        return [compile_plan("create", spec, offline_facts(spec), offline=True) for spec in specs]
    return [compile_plan("create", spec, facts) for spec in specs for facts in hosts()]


@every
def test_an_example_can_be_planned_over_both_recorded_hosts_or_offline(path: Path) -> None:
    assert all(plan.steps for plan in plans(path))


@every
def test_an_example_begins_with_its_schema_and_two_or_three_lines_on_what_it_shows(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == MODELINE
    comments = [line for line in lines[1 : lines.index("version: 1")] if line not in ("#", "") and "facts:" not in line]
    assert 2 <= len(comments) <= 4
    assert all(line.startswith("# ") for line in comments)
    assert max(map(len, lines)) <= 120


def test_the_examples_show_every_method_that_these_hosts_have_and_every_type_of_domain() -> None:
    made = [plan for path in EXAMPLES for plan in plans(path)]
    assert {row.method for plan in made for row in plan.disks} == {"internal", "external", "lvm", "copy", "exclude"}
    assert {plan.domains[0].type for plan in made} == {"pv", "pvh", "hvm"}
    assert 8 <= len(EXAMPLES) <= 10


def test_an_empty_cd_drive_needs_no_word_in_a_spec() -> None:
    for plan in plans(SPECS / "win.yaml"):
        assert {row.vdev for row in plan.disks} == {"hda", "xvdb"}
