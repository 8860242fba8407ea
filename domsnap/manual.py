"""Makes the manual page, in the man macros, from the same command tree that prints `--help`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from domsnap.door import EXIT_STATUS
from domsnap.version import DATE, VERSION

if TYPE_CHECKING:
    import click

_FILES = (
    ("/var/lib/domsnap/DOMAIN/SNAPSHOT/", "memory image and record of a snapshot, unless the spec names another store"),
)
_ENVIRONMENT = (
    ("NO_COLOR", "when set to anything, nothing is coloured"),
    ("TERM", "when `dumb`, likewise"),
)
_EXAMPLES = (
    ("Check a spec:", "domsnap validate web01.yaml"),
    ("Plan from facts observed earlier, and keep the plan:", "domsnap plan web01.yaml --facts facts.json -o plan.json"),
    ("Print what was planned as a shell script:", "domsnap script plan.json -o snapshot.sh"),
    ("Plan the way back:", "domsnap plan web01.yaml --revert --facts facts.json"),
)  # fmt: skip


def manual(command: click.Command) -> str:
    """Return the manual page of a command and the commands below it, as roff."""
    import click

    context = click.Context(command, info_name="domsnap", **command.context_settings)
    assert isinstance(command, click.Group)
    return "\n".join(_page(command, context)) + "\n"


def _page(command: click.Group, context: click.Context) -> Iterator[str]:
    import click

    children = [(name, command.commands[name]) for name in command.list_commands(context)]
    below = [(child, click.Context(child, context, name)) for name, child in children if not child.hidden]
    yield f'.TH DOMSNAP 8 "{DATE}" "domsnap {VERSION}" "Xen administration"'
    yield from (".SH NAME", r"domsnap \- snapshots of whole Xen domains, memory and disks at one instant")
    yield ".SH SYNOPSIS"
    for number, (_, inner) in enumerate(below):
        yield from ([".br"] if number else [])
        yield _usage(inner)
    yield ".SH DESCRIPTION"
    yield from _prose(command.help or "")
    yield ".SH OPTIONS"
    yield from _parameters(command, context)
    yield ".SH COMMANDS"
    for child, inner in below:
        yield f".SS {_usage(inner).removeprefix('.B ')}"
        yield from _prose(child.help or "")
        yield from _parameters(child, inner)
    for title, rows in (("EXIT STATUS", EXIT_STATUS), ("ENVIRONMENT", _ENVIRONMENT), ("FILES", _FILES)):
        yield f".SH {title}"
        for term, meaning in rows:
            yield from _item(term, meaning)
    yield ".SH EXAMPLES"
    for number, (what, line) in enumerate(_EXAMPLES):
        yield from ([".PP"] if number else [])
        yield from (_text(what), ".PP", ".RS 4", ".EX", _text(line), ".EE", ".RE")
    yield from (".SH SEE ALSO", ".BR xl (1),", ".BR xl.cfg (5),", ".BR qemu\\-img (1),", ".BR lvm (8)")


def _usage(context: click.Context) -> str:
    return f".B {_text(' '.join([context.command_path, *context.command.collect_usage_pieces(context)]))}"


def _parameters(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            yield from _item(*record)


def _item(term: str, meaning: str) -> Iterator[str]:
    yield from (".TP", f".B {_text(term)}", _text(" ".join(meaning.split())))


def _prose(text: str) -> Iterator[str]:
    """Yield paragraphs: in a help text they are parted by empty lines."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        yield from ([".PP"] if number else [])
        yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Return a line of text in which roff sees no command: backslashes, hyphens as typed, and what begins a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("'", "\\(aq")
    return "\\&" + escaped if escaped.startswith((".", "\\(aq")) else escaped
