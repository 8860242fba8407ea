"""Runs the command line and turns whatever comes out of it into clean messages and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from schema.diagnostic import Diagnostic, Refused

EXIT_STATUS = (
    ("0", "done, or nothing to do"),
    ("1", "an error or wrong usage; nothing was changed"),
    ("2", "only with --detailed-exitcode: the plan has something to do"),
    ("3", "the plan is stale or was applied already"),
    ("4", "another domsnap is at work on the domain"),
    ("5", "it failed, and everything was rolled back"),
    ("6", "it failed and needs attention; what is left to do was printed"),
    ("128+n", "ended by signal n"),
)


@dataclass(slots=True)
class Settings:
    """What the options say that hold for the whole run."""

    debug: bool = False
    json: bool = False


class Ended(Exception):
    """The run is over, with an exit status and, where there is one, a line to say on standard error."""

    def __init__(self, status: int, line: str = "") -> None:
        super().__init__(line)
        self.status = status
        self.line = line


def run(arguments: Sequence[str] | None = None) -> int:
    """Run domsnap with these arguments, the process's own if none, and return the exit status."""
    _fill_closed_descriptors()
    settings = Settings()
    try:
        status = _obey(arguments, settings)
        if sys.stdout is not None:
            emit(b"")
    except Ended as ended:
        if ended.line:
            complain(ended.line)
        return ended.status
    except KeyboardInterrupt:
        complain("domsnap: interrupted")
        return 130
    except Exception as error:
        if settings.debug:
            raise
        kind = f"{type(error).__name__}: {error}".splitlines()[0]
        complain(
            f"domsnap: this is a bug in domsnap ({kind}). Please report it with the files you gave it and what "
            "`domsnap --debug ...` prints with the same arguments."
        )
        return 1
    return status


def _obey(arguments: Sequence[str] | None, settings: Settings) -> int:
    import click

    from domsnap.cli import command

    try:
        answer = command().main(arguments, prog_name="domsnap", standalone_mode=False, obj=settings)
    except Refused as refused:
        report(refused.diagnostics, as_json=settings.json)
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        complain(error.format_message())
        return 1
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "domsnap"
        text = error.format_message().rstrip(".")
        complain(f"{where}: {text[:1].lower()}{text[1:]}\n  hint: {where} --help says what it takes")
        return 1
    except click.ClickException as error:
        complain(f"domsnap: {error.format_message()}")
        return 1
    except MemoryError:
        raise Ended(1, "domsnap: out of memory; nothing was changed") from None
    except SystemExit as leaving:  # the completion options leave so, and so does a help text into a closed pipe
        return leaving.code if isinstance(leaving.code, int) else 0
    if answer == 130:  # typer's word for Ctrl-C
        raise KeyboardInterrupt
    return answer if isinstance(answer, int) else 0


def report(diagnostics: Iterable[Diagnostic], *, as_json: bool) -> None:
    """Print diagnostics for people on standard error, or `{"version": 1, "diagnostics": [...]}` on standard output."""
    if as_json:
        import json

        document = {"version": 1, "diagnostics": [diagnostic.to_json() for diagnostic in diagnostics]}
        emit((json.dumps(document, indent=2) + "\n").encode())
        return
    from domsnap.message import message

    for number, diagnostic in enumerate(diagnostics):
        complain(("\n" if number else "") + message(diagnostic, color=colors(sys.stderr)).rstrip("\n"))


def colors(stream: object) -> bool:
    """Say whether to write colour there: to a terminal, unless NO_COLOR or TERM forbids it (no-color.org)."""
    terminal = getattr(stream, "isatty", bool)()
    return bool(terminal) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def emit(data: bytes) -> None:
    """Write to standard output, now. Raises Ended where that cannot be done."""
    if sys.stdout is None:
        raise Ended(1, "domsnap: standard output is closed")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _silence(1)
        raise Ended(128 + 13) from None
    except OSError as error:
        _silence(1)
        raise Ended(1, f"domsnap: cannot write to standard output: {error.strerror}") from None


def emit_text(text: str) -> None:
    """Write text for people, in the encoding of the terminal; what that lacks is shown as `?`."""
    emit(text.encode(getattr(sys.stdout, "encoding", None) or "utf-8", errors="replace"))


def complain(line: str) -> None:
    """Write a line to standard error; where that is impossible, nobody listens."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        _silence(2)


def _silence(descriptor: int) -> None:
    """Put /dev/null there, so that the interpreter's last flush does not fail a second time."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _fill_closed_descriptors() -> None:
    """Open /dev/null in the place of closed standard streams, so that no file of ours takes their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
