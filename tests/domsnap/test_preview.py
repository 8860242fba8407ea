from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domsnap.preview import preview
from domsnap.shown import shown
from domsnap.terminal import cells, middle, safe, wrap
from domsnap.told import nearby
from domsnap.units import duration, size
from planner.commands import Qmp, Run
from planner.plan import Plan
from tests.domsnap import plans

every_plan = pytest.mark.parametrize("make", plans.ALL, ids=lambda make: make.__name__)
STEP = re.compile(r"^([|] | {1,2}) *([0-9]+) ([<+~!>-]) (.*)$")


def steps_shown(text: str) -> dict[int, re.Match[str]]:
    found = (STEP.match(line) for line in text.splitlines())
    return {int(match[2]): match for match in found if match}


@every_plan
@pytest.mark.parametrize("width", [40, 61, 80, 132])
def test_no_line_is_wider_than_asked(make: Callable[[], Plan], width: int) -> None:
    lines = preview(make(), width=width, color=True).splitlines()
    assert [line for line in lines if cells(line) > width and not line.startswith("apply: ")] == []


@every_plan
def test_nothing_of_a_plan_reaches_the_terminal_as_a_control_character(make: Callable[[], Plan]) -> None:
    for verbose in (False, True):
        text = preview(make(), verbose=verbose)
        assert all(line.isprintable() for line in text.split("\n"))


@every_plan
def test_colour_adds_nothing_but_colour(make: Callable[[], Plan]) -> None:
    coloured = preview(make(), color=True, verbose=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == preview(make(), verbose=True)


@every_plan
def test_the_same_plan_gives_the_same_text(make: Callable[[], Plan]) -> None:
    assert preview(make()) == preview(make())


def test_a_bar_stands_beside_exactly_the_steps_of_the_stopped_window() -> None:
    shown_steps = steps_shown(preview(plans.ordinary()))
    assert sorted(shown_steps) == list(range(1, 16))
    assert [number for number, match in shown_steps.items() if match[1] == "| "] == [8, 9, 10, 11, 12]


def test_the_window_is_named_where_it_begins_and_ends() -> None:
    lines = preview(plans.ordinary()).splitlines()
    stops = next(index for index, line in enumerate(lines) if "guest stops here" in line)
    runs = next(index for index, line in enumerate(lines) if "guest runs again" in line)
    assert STEP.match(lines[stops + 1])[2] == "8"  # type: ignore[index]  # a step follows
    assert STEP.match(lines[runs - 1])[2] == "12"  # type: ignore[index]  # the step that lets it go
    assert "for 8.3 to 14 s" in lines[stops]


def test_symbols_say_what_each_step_does_without_colour() -> None:
    symbols = {number: match[3] for number, match in steps_shown(preview(plans.ordinary())).items()}
    assert "".join(symbols[number] for number in sorted(symbols)) == "<+++" + "+<~!" + "++~>~" + "++"


def test_the_undo_of_a_step_is_shown_up_to_the_commit_and_not_behind_it() -> None:
    lines = preview(plans.ordinary()).splitlines()
    commit = next(index for index, line in enumerate(lines) if "let web01 run on" in line)
    said = [index for index, line in enumerate(lines) if re.search(r" undo: \S", line)]
    assert len(said) == 9  # steps 2 to 11 without the rehearsal, which has none
    assert max(said) < commit  # the step that publishes the memory has an undo, but nothing would call for it


def test_the_undo_leaves_out_commands_that_only_look() -> None:
    text = preview(plans.ordinary())
    assert "undo: xl unpause, rm\n" in text
    assert "undo: rename back\n" in text


def test_a_step_that_cannot_be_undone_where_others_can_says_so() -> None:
    assert re.search(r"^\| 3 ! destroy web01 +undo: none$", preview(plans.revert()), re.MULTILINE)
    assert "undo: none" not in preview(plans.delete())  # there nothing is, and one sentence says it
    assert "undo: none" not in preview(plans.ordinary())


def test_the_undo_is_promised_only_as_far_as_it_goes() -> None:
    assert "A failure up to step 11 undoes everything; a later one is reported.\n" in preview(plans.ordinary())
    assert "A failure before step 3 undoes everything; from step 3 on, not all" in preview(plans.revert())
    assert "Nothing is undone when a step fails" in preview(plans.delete())


def test_the_summary_counts_the_steps_that_are_shown() -> None:
    text = preview(plans.ordinary())
    symbols = [match[3] for match in steps_shown(text).values()]
    counts = f"Plan: {symbols.count('+')} to create, {symbols.count('~')} to change, {symbols.count('-')} to destroy"
    assert f"\n{counts}; guest stops once, 8.3 to 14 s.\n" in text


def test_what_is_destroyed_stands_just_above_the_summary() -> None:
    lines = preview(plans.revert()).splitlines()
    start = lines.index("DESTROYS")
    assert lines[start + 1 : start + 3] == [
        "  - memory: what web01 holds in it now (running)",
        "  - xvda: what was written to it since the snapshot",
    ]
    assert lines[start + 3].startswith("Plan: ")
    assert "\nDestroys nothing.\nPlan: " in preview(plans.ordinary())


def test_an_empty_plan_says_so_and_why() -> None:
    text = preview(plans.empty())
    assert "\nNothing to do: web01/before-upgrade exists and is what the spec declares.\n" in text
    assert "Plan: " not in text
    assert "apply:" not in text


def test_an_offline_plan_says_loudly_that_nothing_was_observed() -> None:
    text = preview(plans.offline())
    assert text.splitlines()[1].startswith("  OFFLINE: no host was observed.")
    assert "apply: domsnap apply" not in text


def test_untested_methods_are_named() -> None:
    assert "  UNTESTED vhd: never run on a real host; refused by apply without --untested\n" in preview(plans.offline())


def test_a_guest_that_is_off_has_no_stopped_window() -> None:
    text = preview(plans.delete())
    assert "guest stops here" not in text
    assert not any(match[1] == "| " for match in steps_shown(text).values())
    assert "0 to change, 2 to destroy; guest stays off.\n" in text


def test_a_guest_that_is_off_and_is_restored_starts() -> None:
    plan = plans.revert()
    off = replace(plan, domains=(replace(plan.domains[0], state="off", domid=None),), steps=plan.steps[3:], stops=())
    text = preview(off)
    assert "'-- guest starts, as it was in the snapshot\n" in text
    assert "1 to destroy; guest starts.\n" in text


def test_with_several_domains_each_step_names_its_own() -> None:
    text = preview(plans.two())
    assert "| 2 ! db01: suspend db01 and write its memory\n" in text
    assert ".-- db01 stops here\n" in text
    assert "'-- web01 runs again\n" in text


def test_a_long_path_is_shortened_in_the_middle_in_the_table_only() -> None:
    path = "/srv/xen/" + "a-long-folder-name/" * 4 + "root.qcow2"
    row = replace(plans.ordinary().disks[0], path=path)
    lines = preview(replace(plans.ordinary(), disks=(row,)), verbose=True).splitlines()
    said = next(line for line in lines if line.startswith("xvda  "))
    assert cells(said) <= 80
    assert "..." in said
    assert said.endswith("root.qcow2")
    assert any(line.endswith("/srv/xen/web01/data.before-upgrade.new.qcow2 1") for line in lines)  # a command, whole


def test_a_step_without_room_puts_its_undo_on_a_line_of_its_own() -> None:
    lines = preview(plans.ordinary()).splitlines()
    title = next(index for index, line in enumerate(lines) if "LVM snapshot vg0" in line)
    assert re.fullmatch(r"[|] +undo: lvremove", lines[title + 1])


def test_an_ordinary_domain_fits_a_screen() -> None:
    """Two disks, 80 columns: 40 lines. Four disks with every method that a domain may mix: 60."""
    plan = plans.ordinary()
    few = tuple(step for step in plan.steps if step.subject not in ("xvdb", "storage"))
    simple = replace(plan, disks=plan.disks[1:3], steps=few, warnings=())
    assert len(preview(simple).splitlines()) <= 40
    assert len(preview(plan).splitlines()) <= 60


def test_files_in_the_folder_of_a_disk_go_by_their_name_and_all_others_by_their_path() -> None:
    text = preview(plans.ordinary())
    assert "  QEMU serves it (qdisk): overlay by QMP; kept as data.before-upgrade.qcow2\n" in text
    assert "   3 + xvdb: link data.qcow2 to data.before-upgrade.qcow2 " in text
    assert f"   2 + make the folder {plans.FOLDER} " in text
    row = replace(plans.ordinary().disks[1], path="/srv/data.qcow2")
    other = preview(replace(plans.ordinary(), disks=(row,)), width=120)
    assert "xvdb: link /srv/xen/web01/data.qcow2 to " in " ".join(other.split())  # below the folder, not in it


def test_a_folder_is_left_out_only_where_the_path_begins_with_it() -> None:
    assert nearby("copy /srv/a.raw to /mnt/srv/b.raw and /srv/sub/c.raw", "/srv/x.raw") == (
        "copy a.raw to /mnt/srv/b.raw and /srv/sub/c.raw"
    )


def test_a_guest_that_runs_is_not_said_to_run_again() -> None:
    plan = plans.ordinary()
    text = preview(replace(plan, steps=(plan.steps[0], replace(plan.steps[11], number=2)), stops=()))
    assert "runs again" not in text
    assert "guest runs on throughout" in text


def test_wide_characters_take_two_columns_and_marks_none() -> None:
    assert [cells(text) for text in ("web", "\u8868", "e\u0301", "\x1b[31mred\x1b[0m")] == [3, 2, 1, 3]


def test_warnings_name_their_place_in_the_spec() -> None:
    assert "\n  ! specs/web01.yaml:14:7: xvdc: the snapshot becomes invalid" in preview(plans.ordinary())


def test_the_command_that_applies_is_the_one_the_door_names() -> None:
    assert preview(plans.ordinary(), apply="domsnap apply plan.json").endswith("\napply: domsnap apply plan.json\n")
    assert "apply:" not in preview(plans.ordinary())


def test_verbose_shows_every_command_whole_on_a_line_of_its_own() -> None:
    lines = preview(plans.ordinary(), verbose=True, width=60).splitlines()
    for step in plans.ordinary().steps:
        for command in (*step.checks, *step.do, *step.after, *step.undo):
            assert any(line.endswith(shown(command)) for line in lines)


PLAIN = st.text(st.characters(categories=("L", "N", "P", "S")))


@given(st.dictionaries(PLAIN, PLAIN | st.integers()))
def test_a_request_that_is_shown_is_the_one_that_is_sent(arguments: dict[str, str | int]) -> None:
    program, monitor, request = shlex.split(shown(Qmp("/run/m", "transaction", arguments)))
    sent = json.loads(request)
    assert (program, monitor, sent["execute"], sent.get("arguments", {})) == ("qmp", "/run/m", "transaction", arguments)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, max_size=4).map(
        tuple
    )
)
@settings(max_examples=40, deadline=None)
def test_a_command_that_is_shown_can_be_pasted(argv: tuple[str, ...]) -> None:
    told = shown(Run(("printf", r"%s\0", *argv), prints="a # b"))
    there = subprocess.run(
        ["bash", "-c", told], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    )
    assert there.stdout.decode(errors="surrogateescape").split("\0")[:-1] == list(argv)


@given(st.text(), st.integers(1, 90))
def test_wrapping_loses_nothing_and_stays_within_its_width(text: str, width: int) -> None:
    text = safe(text)
    lines = wrap(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(cells(line) <= max(width, 2) for line in lines)


@given(st.text(), st.integers(1, 90))
def test_shortening_stays_within_its_width(text: str, width: int) -> None:
    assert cells(middle(safe(text), width)) <= max(width, 2)


@given(st.text())
def test_safe_text_is_printable(text: str) -> None:
    assert safe(text).isprintable()


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (2**20 - 1, "1 MiB"), (1536 * 2**20, "1.5 GiB"),
     (64 * 2**30, "64 GiB"),
     (4_366_270_464, "4.1 GiB"), (2**40, "1 TiB"), (2**70, "1024 EiB")],
)  # fmt: skip
def test_bytes_read_as_people_say_them(count: int, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(50, 400, "50 to 400 ms"), (900, 1500, "0.9 to 1.5 s"), (50, 1500, "50 ms to 1.5 s"), (970, 1000, "1 s"),
     (8300, 14200, "8.3 to 14 s"), (9000, 9000, "9 s"),
     (60_000, 100_000, "60 s to 1 min 40 s"), (100_000, 160_000, "1 min 40 s to 2 min 40 s"),
     (7_200_000, 8_100_000, "2 h to 2 h 15 min")],
)  # fmt: skip
def test_durations_read_as_people_say_them(low: int, high: int, said: str) -> None:
    assert duration(low, high) == said
