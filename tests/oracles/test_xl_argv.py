"""Every call of xl is one that xl knows, with `--` before what it acts on, and was seen to work in a dom0."""

from __future__ import annotations

import re

import pytest

from planner.operations.domain import HELD, LET_GO, RUNS, listed
from tests.oracles.emitted import programs
from tests.oracles.shapes import shape
from tests.oracles.transcript import transcript
from tests.oracles.xl_commands import objections


def calls() -> dict[tuple[str, ...], str]:
    return {argv: where for where, argv in programs() if argv[0] == "xl"}


def test_every_call_is_one_that_xl_knows() -> None:
    # undoing a restore is the one place where the domain's number cannot be known
    by_name = {("xl", "destroy", "--", name) for name in ("web01", "/srv/name", "mail", "win", "build01")}
    wrong = {argv: list(objections(argv)) for argv in calls() if argv not in by_name}
    assert not {argv: said for argv, said in wrong.items() if said}


def test_every_call_was_seen_to_work_in_a_dom0() -> None:
    worked = {shape(ran.argv) for ran in transcript() if ran.argv[0] == "xl" and ran.status == 0}
    never = {shape(argv): where for argv, where in calls().items() if shape(argv) not in worked}
    assert not never, f"run these in a dom0 and keep what they print in tests/recorded/: {never}"


@pytest.mark.parametrize(
    "argv,said",
    [
        ("xl snapshot -- 7", "no command 'snapshot'"),
        ("xl unpause 7", "want -- before them"),
        ("xl save -x -- 7 /a", "no option '-x'"),
        ("xl save -- 7", "takes 2 to 3 operands, not 1"),
        ("xl unpause -- web01", "give its number"),
        ("xl resume -- 7", "came with Xen 4.20"),
        ("xl destroy -- 7 8", "takes 1 to 1 operands, not 2"),
    ],
)
def test_a_wrong_call_is_found(argv: str, said: str) -> None:
    assert any(said in objection for objection in objections(tuple(argv.split())))


def test_the_list_that_a_dom0_printed_proves_the_state_of_the_domain() -> None:
    """The patterns of the postconditions are held against what xl really prints."""
    lists = [ran.printed for ran in transcript() if ran.argv == ("xl", "list", "-v")]
    uuid = next(found[0] for text in lists for found in re.findall(r"(?m)^web01.* ((\w+-){4}\w+)", text))

    def proves(state: str, text: str, domid: int | None = None, name: str = "web01") -> bool:
        return bool(re.search(listed(name, domid, uuid, state).prints, text, re.MULTILINE))

    running, held, let_go, *_ = (text for text in lists if "web01" in text)
    domid = int(re.findall(r"(?m)^web01 +(\d+)", running)[0])
    assert proves(RUNS, running, domid) and proves(LET_GO, running, domid) and not proves(HELD, running)
    assert proves(HELD, held, domid) and not proves(RUNS, held) and not proves(LET_GO, held)
    assert proves(LET_GO, let_go, domid)
    assert not proves(RUNS, running, domid + 1)
    assert not proves(RUNS, running, name="web0")
    restored = [text for text in lists if re.search(rf"(?m)^web01 +{domid + 1} ", text)]
    assert restored and all(proves(LET_GO, text) for text in restored)  # the same UUID under the next number
    gone = [text for text in lists if "web01" not in text]
    assert gone and not any(proves(LET_GO, text) for text in gone)


def test_xl_exits_0_though_it_failed_to_unpause() -> None:
    failed = [ran for ran in transcript() if ran.argv[:2] == ("xl", "unpause") and "error" in ran.printed]
    assert failed and all(ran.status == 0 for ran in failed)


def test_wrong_usage_exits_2_and_a_missing_domain_1() -> None:
    status = {ran.argv: ran.status for ran in transcript()}
    assert status[("xl", "unpause", "--")] == 2
    assert status[("xl", "save", "-x", "--", "1", "f")] == 2
    assert status[("xl", "list", "-v", "--", "missing")] == 1
    assert status[("xl", "domid", "--", "missing")] == 1
    assert status[("xl", "destroy", "--", "web01")] == 1
    assert status[("xl", "restore", "--", "/srv/vm/missing")] == 1
