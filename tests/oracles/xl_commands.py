"""The subcommands of xl that plans may use: options and operands, from tools/xl/xl_cmdtable.c of Xen 4.17 to 4.20.

Seen in a dom0 with 4.20: `--` ends the options, a number is taken for a domid, wrong usage exits 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True, slots=True)
class Usage:
    """`options` stand before `--`, without values; `operands`: (least, most); domid: the first of them is a number."""

    options: frozenset[str]
    operands: tuple[int, int]
    domid: bool = False
    since: tuple[int, int] = (4, 0)


COMMANDS = {
    "info": Usage(frozenset({"-n", "--numa"}), (0, 0)),
    "list": Usage(frozenset({"-l", "--long", "-v", "--verbose", "-Z", "--context", "-c", "--cpupool", "-n"}), (0, 1)),
    "domid": Usage(frozenset(), (1, 1)),
    "domname": Usage(frozenset(), (1, 1), domid=True),
    "save": Usage(frozenset({"-c", "-p", "-D"}), (2, 3), domid=True),
    "restore": Usage(frozenset({"-p", "-e", "-d", "-V", "-A"}), (1, 2)),
    "destroy": Usage(frozenset({"-f"}), (1, 1), domid=True),
    "pause": Usage(frozenset(), (1, 1), domid=True),
    "unpause": Usage(frozenset(), (1, 1), domid=True),
    "suspend": Usage(frozenset(), (1, 1), domid=True, since=(4, 20)),
    "resume": Usage(frozenset(), (1, 1), domid=True, since=(4, 20)),
}  # fmt: skip


def objections(argv: tuple[str, ...], xen: tuple[int, int] = (4, 17)) -> Iterator[str]:
    """Yield what xl would say against an argv, or what a plan must not leave to xl."""
    name, *words = argv[1:]
    usage = COMMANDS.get(name)
    if usage is None:
        yield f"xl has no command {name!r} that plans may use"
        return
    if xen < usage.since:
        yield f"xl {name} came with Xen {usage.since[0]}.{usage.since[1]}"
    options = list(takewhile(lambda word: word.startswith("-") and word != "--", words))
    operands = words[len(options) :]
    if operands[:1] == ["--"]:
        operands = operands[1:]
    elif operands:
        yield f"xl {name}: operands want -- before them"
    yield from (f"xl {name} has no option {option!r}" for option in options if option not in usage.options)
    if not usage.operands[0] <= len(operands) <= usage.operands[1]:
        yield f"xl {name} takes {usage.operands[0]} to {usage.operands[1]} operands, not {len(operands)}"
    if usage.domid and operands and not operands[0].isdecimal():
        yield f"xl {name}: {operands[0]!r} may be another domain by now; give its number"
