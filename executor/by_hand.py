"""Commands as a person would give them at a prompt, one line each, to be pasted as they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from posixpath import dirname
from typing import Any, assert_never

from executor.migrate import by_library
from executor.quote import join, quote
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
    canonical,
    to_json,
)

WHOLE = "sh THIS-SCRIPT --whole"  # how a script says whether a memory image is complete


def by_hand(command: Command) -> Iterator[str]:
    """Yield the lines that do a command."""
    match command:
        case Run(argv=argv, when=when, unless=unless):
            told = f"{join(command.input)} | {join(argv)}" if command.input else join(argv)
            told = f"{join(unless)} || {told}" if unless else told
            told = f"{{ {told}; }}" if when and unless else told
            yield f"{join(when)} && {told}" if when else told
        case Qmp(monitor=monitor, execute=execute, arguments=arguments):
            yield _qmp(monitor, execute, arguments)
        case AwaitJob(monitor=monitor, job=job, complete=complete):
            state = "pending" if to_json(command)["await-job"].get("pending") else "concluded"
            yield f"{_qmp(monitor, 'query-jobs')}  # again, until {one_line(job)} is {state}"
            if complete:
                ready = _qmp(monitor, "job-complete", {"id": job})
                yield f"{ready}  # once, when it is ready"
            if state == "concluded":
                yield _qmp(monitor, "job-dismiss", {"id": job})
        case Seal(image=image, digest=digest, name=name):
            yield f"{WHOLE} {quote(image)}"
            if digest:
                end = f"  {name}".replace("\\", "\\\\").replace("&", "\\&").replace("#", "\\#")
                yield f"sha256sum <{quote(image)} | sed {quote(f's#  -$#{end}#')} >{quote(digest)}"
        case Write(path=path, text=text):
            escaped = text.replace("\\", "\\\\").replace("%", "%%").replace("\n", "\\n")
            yield f"printf {quote(escaped)} >{quote(path)}"
        case Rename(source=source, target=target):
            yield f"test {quote(source)} -ef {quote(target)} || mv -f -T -- {quote(source)} {quote(target)}"
            yield f"sync -- {join(tuple(dict.fromkeys((dirname(target), dirname(source)))))}"
        case Capture() | Compact():
            return  # nothing of the one is left to do by the time that anything is done by hand; the other need not be
        case Release(domid=domid):
            yield f"xl resume -- {domid}  # if xl list shows it as suspended (ss), on Xen 4.20 or later"
            yield f"{by_library(domid)}  # the same, before 4.20"
        case _:
            assert_never(command)


def lines(commands: Iterable[Command]) -> Iterator[str]:
    """Yield the lines of several commands, each without characters that a terminal would act on."""
    for command in commands:
        for line in by_hand(command):
            yield one_line(line)


def one_line(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _qmp(monitor: str, execute: str, arguments: Mapping[str, Any] | None = None) -> str:
    request = {"execute": execute, **({"arguments": dict(arguments)} if arguments else {})}
    words = ('{"execute":"qmp_capabilities"}', canonical(request))
    return f"printf '%s\\n' {join(words)} | socat -t 10 - {quote(f'UNIX-CONNECT:{monitor}')}"
