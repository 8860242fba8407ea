"""A command as words for a shell prompt: what `preview -v` and the page show, for people to read and try by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import assert_never

from domsnap.terminal import safe
from planner.commands import AwaitJob, Capture, Command, Compact, Qmp, Release, Rename, Run, Seal, Write, canonical


def shown(command: Command) -> str:
    """Return a command on one line: words that can be pasted, then what else it must meet, behind a `#`.

    What is no single program is told in words behind a `#`: pasted, such a line does nothing.
    """
    match command:
        case Run(argv):
            pipe = f"{_words(command.input)} | " if command.input else ""
            return _line(pipe + _words(argv), _terms(command))
        case Qmp(monitor, execute, arguments):
            said = f',"arguments":{canonical(dict(arguments))}' if arguments else ""
            request = f'{{"execute":{canonical(execute)}{said}}}'
            return _line(_words(("qmp", monitor, request)), _terms(command))
        case AwaitJob(monitor, job, complete, optional):
            end = ", and complete it when it is ready" if complete else ""
            maybe = ", if there is one" if optional else ""
            return f"# wait until the QEMU job {safe(job)} has ended{end}{maybe}: {_words((monitor,))}"
        case Capture(domid, image, after, most):
            limits = [f"{after} s"] * (after > 0) + [f"{most} bytes"] * (most > 0)
            given_up = f"; given up after {' or '.join(limits)}" if limits else ""
            return f"# xl migrate -s '' {domid} into {_words((image,))}, until the guest is suspended{given_up}"
        case Release(domid):
            return f"# decline the migration of domain {domid}: xl resumes the guest"
        case Seal(image, digest):
            note = f", write its SHA-256 to {_words((digest,))}" if digest else ""
            return f"# walk {_words((image,))} to its END record, sync it{note}"
        case Compact(image, target):
            paths = f"{_words((image,))} to {_words((target,))}"
            pages = " with the last copy of each page alone" if command.pages else ""
            through = f" through {_words(command.through)}" if command.through else ""
            return f"# copy {paths}{pages}{through}, sync it, let the record name it"
        case Write(path, text):
            length = len(text.encode(errors="surrogateescape"))
            return f"# write {length} bytes to the new file {_words((path,))}, and sync it"
        case Rename(source, target):
            return f"{_words(('mv', '-T', '--', source, target))}  # then sync the directory"
        case _:
            assert_never(command)


def _words(argv: tuple[str, ...]) -> str:
    return " ".join(_word(word) for word in argv)


def _word(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # A byte that a terminal would act on: $'...' spells it (bash, ksh, busybox, POSIX.1-2024).
    return "$'" + "".join(_spelt(each) for each in word) + "'"


def _spelt(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode(errors="surrogateescape"))


def _line(words: str, terms: Iterator[str]) -> str:
    said = "; ".join(terms)
    return f"{words}  # {said}" if said else words


def _terms(command: Run | Qmp) -> Iterator[str]:
    """Yield what a command must meet besides ending well."""
    if command.when and isinstance(command, Run):
        yield f"only if: {_words(command.when)}"
    elif command.when:
        yield f"only if {command.when[0]} says {safe(command.when[1])}"
    if isinstance(command, Run):
        if command.unless:
            yield f"unless: {_words(command.unless)}"
        if command.status:
            yield f"must exit {command.status}"
    elif command.error:
        yield f"must fail: {safe(command.error)}"
    if command.prints:
        yield f"must print {safe(command.prints)}"
    if command.lacks:
        yield f"must not print {safe(command.lacks)}"
    if command.tolerates:
        yield f"may fail: {safe(command.tolerates)}"
    if isinstance(command, Qmp) and command.transient:
        yield "done if QEMU is gone"
    if command.within:
        yield f"for up to {command.within} s"
