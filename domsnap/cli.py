"""The command line: what `domsnap` takes, and which part of it answers. Everything is imported where it is used."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from domsnap.door import EXIT_STATUS, Settings, colors, complain, emit, emit_text, report
from schema.diagnostic import Diagnostic, Refused

if TYPE_CHECKING:
    import click

    from domsnap.planning import Request
    from planner.plan import Plan

Format = Literal["text", "json", "mermaid", "html"]

_STATUS = "\n".join(f"  {code:<7}{meaning}" for code, meaning in EXIT_STATUS)
_EPILOG = f"\b\nExit status:\n{_STATUS}"

app = typer.Typer(
    name="domsnap",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)

SpecFile = Annotated[
    str, typer.Argument(metavar="SPEC", help="A spec, or a plan that was saved with -o; - for standard input.")
]
Revert = Annotated[bool, typer.Option("--revert", help="Plan to roll the domain back to the snapshot.")]
Delete = Annotated[bool, typer.Option("--delete", help="Plan to remove the snapshot.")]
FactsFile = Annotated[
    str, typer.Option("--facts", metavar="FILE", help="Plan from the facts in this file, observed earlier.")
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Plan from the spec alone: it states `assume` and its disks in full.")
]
Document = Annotated[
    str,
    typer.Option(
        "--document",
        metavar="N|NAME",
        help="Of several snapshots in the file only this one, by its number from 1, its name or DOMAIN/NAME.",
    ),
]
DiscardCurrent = Annotated[
    bool, typer.Option("--discard-current", help="With --revert: do not save the present first. It is lost.")
]
AllowDrift = Annotated[
    bool, typer.Option("--allow-drift", help="With --revert: go on although the domain's disks are not those of then.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, diagnostics too.")]


def command() -> click.Command:
    """Return the command tree, with its help; the man page is made from the same."""
    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        from domsnap.version import VERSION

        emit_text(f"domsnap {VERSION}\n")
        raise typer.Exit


@app.callback()
def domsnap(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show a Python traceback when domsnap itself fails.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback answers it
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take snapshots of whole Xen domains - memory and all disks at one instant - and roll the domains back to them.

    A snapshot is declared in a short YAML spec; domsnap compiles it, with the facts observed on the host, to a plan
    that can be read, kept, or printed as a shell script before anything is touched.
    """
    _settings(context).debug = debug


def _settings(context: typer.Context) -> Settings:
    settings = context.find_object(Settings)
    assert settings is not None
    return settings


@app.command()
def validate(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Specs; - for standard input.")],
    as_json: AsJson = False,
) -> int:
    """Check specs, and say all that is wrong with them."""
    from domsnap import reading
    from schema.read import read_specs

    _settings(context).json = as_json
    wrong: list[Diagnostic] = []
    for file in files:
        try:
            specs = read_specs(reading.contents(file), reading.shown(file))
        except Refused as refused:
            wrong.extend(refused.diagnostics)
        else:
            if not as_json:
                names = ", ".join(f"{spec.domain}/{spec.snapshot}" for spec in specs)
                emit_text(f"{reading.shown(file)}: valid ({names})\n")
    if wrong or as_json:
        report(wrong, as_json=as_json)
    return 1 if any(diagnostic.severity == "error" for diagnostic in wrong) else 0


@app.command()
def schema(
    name: Annotated[
        Literal["snapshot", "facts", "plan", "record"],
        typer.Argument(metavar="NAME", help="snapshot (that is: a spec), facts, plan or record."),
    ],
) -> None:
    """Print the JSON Schema of one kind of document."""
    from schema.validate import schema_text

    emit(schema_text(name).encode())


@app.command()
def plan(
    context: typer.Context,
    file: SpecFile,
    revert: Revert = False,
    delete: Delete = False,
    facts: FactsFile = "",
    offline: Offline = False,
    document: Document = "",
    discard_current: DiscardCurrent = False,
    allow_drift: AllowDrift = False,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Save the plan to this file too.")] = "",
    form: Annotated[
        Format | None, typer.Option("--format", metavar="FORMAT", help="text (default), json, mermaid or html.")
    ] = None,
    as_json: AsJson = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the exact commands of each step.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 if the plan has something to do, 0 if not.")
    ] = False,
) -> int:
    """Show what would be done, step by step. Nothing is touched."""
    form = _format(form, as_json=as_json)
    _settings(context).json = form == "json"
    request = _request(
        file, revert=revert, delete=delete, facts=facts, offline=offline, document=document,
        discard_current=discard_current, allow_drift=allow_drift,
    )  # fmt: skip

    from domsnap.planning import plans

    made = plans(request)
    if output or form in ("mermaid", "html"):
        _only_one(made, "-o" if output else f"--format {form}")
    if output:
        from domsnap.saving import save

        save(output, made[0].text().encode(), "plan")
    _show(made, form, verbose=verbose)
    if output:
        complain(f"saved as {output}, plan {made[0].id[:12]}")
    return 2 if detailed_exitcode and any(each.steps for each in made) else 0


@app.command()
def script(
    context: typer.Context,
    file: SpecFile,
    revert: Revert = False,
    delete: Delete = False,
    facts: FactsFile = "",
    offline: Offline = False,
    document: Document = "",
    discard_current: DiscardCurrent = False,
    allow_drift: AllowDrift = False,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Write the script to this file, mode 0700.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print diagnostics as JSON on standard output.")] = False,
) -> None:
    """Print the plan as a shell script.

    It is POSIX sh, does the same as the plan, and runs on a host without domsnap.
    """
    _settings(context).json = as_json
    request = _request(
        file, revert=revert, delete=delete, facts=facts, offline=offline, document=document,
        discard_current=discard_current, allow_drift=allow_drift,
    )  # fmt: skip

    from domsnap.planning import plans
    from executor.script import script as printed

    made = plans(request)
    _only_one(made, "a script")
    text = printed(made[0]).encode()
    if output:
        from domsnap.saving import save

        save(output, text, "script")
        complain(f"written to {output}, plan {made[0].id[:12]}")
    else:
        emit(text)


@app.command()
def man() -> None:
    """Print the manual page: `domsnap man | man -l -` shows it."""
    from domsnap.manual import manual

    emit(manual(command()).encode())


def _format(form: Format | None, *, as_json: bool) -> Format:
    if as_json and form not in (None, "json"):
        raise _usage(f"--json and --format {form} do not go together")
    return "json" if as_json else form or "text"


def _request(
    file: str,
    *,
    revert: bool,
    delete: bool,
    facts: str,
    offline: bool,
    document: str,
    discard_current: bool,
    allow_drift: bool,
) -> Request:
    """Return what is to be planned; raise UsageError for options that do not go together."""
    from domsnap.planning import Request

    if revert and delete:
        raise _usage("--revert and --delete do not go together")
    if facts and offline:
        raise _usage("--facts and --offline do not go together")
    if not revert and (discard_current or allow_drift):
        raise _usage("--discard-current and --allow-drift go with --revert")
    if file == facts == "-":
        raise _usage("SPEC and --facts cannot both be standard input")
    return Request(
        file=file,
        verb="revert" if revert else "delete" if delete else "create",
        facts=facts,
        offline=offline,
        document=document,
        discard_current=discard_current,
        allow_drift=allow_drift,
    )


def _usage(message: str) -> Exception:
    import click

    return click.UsageError(message, click.get_current_context(silent=True))


def _only_one(made: list[Plan], what: str) -> None:
    if len(made) != 1:
        names = ", ".join(f"{domain.name}/{each.snapshot}" for each in made for domain in each.domains)
        detail = f"{what} holds one plan; the file has {names}"
        raise Refused([Diagnostic("one snapshot at a time", detail, "choose with --document")])


def _show(made: list[Plan], form: Format, *, verbose: bool) -> None:
    match form:
        case "json":
            emit("".join(each.text() for each in made).encode())
        case "mermaid":
            from domsnap.mermaid import mermaid

            emit(mermaid(made[0]).encode())
        case "html":
            from domsnap.page import page

            emit(page(made[0]).encode())
        case "text":
            from domsnap.preview import preview

            width = _width()
            color = colors(sys.stdout)
            emit_text("\n".join(preview(each, verbose=verbose, color=color, width=width) for each in made))


def _width() -> int:
    """Return the columns of the terminal, within reason; 80 where there is none: files are the same everywhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return 80
    import shutil

    return max(60, min(shutil.get_terminal_size().columns, 120))
