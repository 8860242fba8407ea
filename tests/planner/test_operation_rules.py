"""The rules of the plan that hold for every operation class, each tested over all of them."""

from __future__ import annotations

import pytest

from planner.commands import (
    AwaitJob,
    Capture,
    Command,
    Compact,
    Qmp,
    Release,
    Rename,
    Run,
    Seal,
    Write,
    from_json,
    to_json,
)
from planner.operation import Operation
from planner.operations.overlay import FreezeName, TakePath
from tests.planner.examples import example, examples

EVERY = list(examples())
every = pytest.mark.parametrize("operation", EVERY, ids=lambda operation: type(operation).__name__)

READERS = {
    ("xl", "list"),
    ("xl", "info"),
    ("stat",),
    ("df",),
    ("vgs",),
    ("test",),
    ("lvs",),
    ("cat",),
    ("readlink",),
    ("sha256sum",),
    ("zstd", "-t"),
    ("zstd", "-d"),
    ("qemu-img", "info"),
}
# Programs without options that take the words they get as they are, or that have no `--` (`test`, tap-ctl, vhd-util).
NO_DASHES = {"test", "cat", "readlink", "tap-ctl", "vhd-util"}
# Their exit status says nothing, or not all: what they did has to be looked at.
LIARS = {
    ("xl", "unpause"),
    ("xl", "restore"),
    ("xl", "destroy"),
    ("xl", "save"),
    ("lvconvert", "--yes"),
    ("qemu-img", "rebase"),
}


def changes_nothing(command: Command) -> bool:
    match command:
        case Run(argv=argv):
            return argv[:1] in READERS or argv[:2] in READERS
        case Qmp(execute=execute, arguments=arguments):
            actions = arguments.get("actions", ())
            return execute.startswith("query-") or any(action["type"] == "abort" for action in actions)
        case Seal(digest=digest):
            return not digest
        case _:
            return False


def everything(operation: Operation) -> list[Command]:
    return [*operation.checks(), *operation.do(), *operation.after(), *operation.undo()]


@every
def test_checks_and_postconditions_change_nothing(operation: Operation) -> None:
    assert all(map(changes_nothing, [*operation.checks(), *operation.after()]))


@every
def test_what_calls_itself_a_check_changes_nothing_and_has_nothing_to_undo(operation: Operation) -> None:
    if operation.effect == "check":
        assert all(map(changes_nothing, operation.do()))
        assert not list(operation.undo())


@every
def test_a_program_whose_exit_status_lies_is_followed_by_a_look(operation: Operation) -> None:
    for commands in ([*operation.do(), *operation.after()], list(operation.undo())):
        for index, command in enumerate(commands):
            if isinstance(command, Run) and command.argv[:2] in LIARS:
                assert any(map(changes_nothing, commands[index + 1 :])), command


@every
def test_no_command_is_a_shell_and_names_are_never_options(operation: Operation) -> None:
    for command in everything(operation):
        if isinstance(command, Run):
            assert command.argv[0] not in ("sh", "bash", "dash", "env", "eval")
            assert not any("\0" in word for word in command.argv)
            if command.argv[0] not in NO_DASHES and command.argv not in (("xl", "list", "-v"), ("xl", "info")):
                assert "--" in command.argv, command.argv


@every
def test_what_reads_from_a_program_reads_from_one_that_changes_nothing_and_is_not_tried_again(
    operation: Operation,
) -> None:
    for command in everything(operation):
        if isinstance(command, Run) and command.input:
            assert changes_nothing(Run(command.input)) and "--" in command.input and not command.within, command


@every
def test_an_undo_removes_only_what_its_own_checks_proved_absent(operation: Operation) -> None:
    proved = {c.argv[3] for c in operation.checks() if isinstance(c, Run) and c.argv[:3] == ("test", "!", "-e")}
    made_here = {c.argv[-1] for c in operation.undo() if isinstance(c, Run) and c.argv[0] == "ln"}
    for command in operation.undo():
        if isinstance(command, Run) and command.argv[0] in ("rm", "rmdir"):
            for path in command.argv[command.argv.index("--") + 1 :]:
                assert path in proved | made_here or _child(operation, path), (command.argv, proved)
        if isinstance(command, Run) and command.argv[0] == "lvremove":
            assert "--select" in command.argv or command.when
        if isinstance(command, Qmp) and command.execute == "blockdev-del":
            assert any(isinstance(c, Qmp) and command.arguments["node-name"] in c.lacks for c in operation.checks())


def _child(operation: Operation, path: str) -> bool:
    # A tapdisk's child is proved absent by the step that makes it under the same passing name.
    return type(operation).__name__ == "SwitchTapdisk" and path == getattr(operation, "child", None)


@every
def test_an_undo_works_too_when_nothing_was_done(operation: Operation) -> None:
    for command in operation.undo():
        match command:
            case Run(argv=("rm", "-f", *_)) | Run(argv=("ln", *_)) | Run(argv=("lvremove", "--yes", "--select", *_)):
                pass
            case (
                Run(argv=("qemu-img", "snapshot", "-a", *_))
                | Run(argv=("xl", "unpause", *_))
                | Run(argv=("tap-ctl", *_))
            ):
                pass  # bringing back what is there already is no harm
            case Run(argv=("lvconvert", *_)):
                pass  # merging the present into an origin that still is the present
            case Run(when=when, unless=unless, tolerates=tolerates):
                assert when or unless or tolerates or changes_nothing(command), command
            case Qmp(when=when, tolerates=tolerates):
                assert when or tolerates or changes_nothing(command), command
            case AwaitJob(optional=optional):
                assert optional
            case Rename() | Release():
                pass
            case Capture() | Seal() | Compact() | Write():
                pytest.fail(f"{command} is no undo")


@every
def test_every_command_survives_json(operation: Operation) -> None:
    for command in everything(operation):
        assert from_json(to_json(command)) == command


@every
def test_titles_read_like_titles(operation: Operation) -> None:
    assert operation.title() and not operation.title().endswith(".")
    assert not operation.why().endswith(".")
    assert operation.subject()


@every
def test_the_same_operation_gives_the_same_commands(operation: Operation) -> None:
    assert everything(operation) == everything(operation)


def test_a_frozen_name_is_unlinked_only_while_it_is_the_disks_own_file() -> None:
    (undo,) = example(FreezeName).undo()
    assert undo == Run(("rm", "--", "/srv/frozen"), when=("test", "/srv/frozen", "-ef", "/srv/path"))


def test_taking_over_a_path_is_one_atomic_rename() -> None:
    assert list(example(TakePath).do()) == [Rename("/srv/new", "/srv/path")]
