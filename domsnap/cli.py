"""The command line: what `domsnap` takes, and which part of it answers. Everything is imported where it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from domsnap.door import EXIT_STATUS, Settings, complain, emit, emit_text, report
from domsnap.options import (
    AllowDrift,
    AsJson,
    Delete,
    DiscardCurrent,
    Document,
    FactsFile,
    Format,
    Offline,
    Revert,
    SpecFile,
    Store,
    form_of,
    request_of,
)
from schema.diagnostic import Diagnostic, Refused
from schema.spec import DEFAULT_STORE as STORE

if TYPE_CHECKING:
    import click

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
def observe(
    context: typer.Context,
    domains: Annotated[
        list[str] | None, typer.Argument(metavar="[DOMAIN]...", help="Domains that must be there; all are observed.")
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Write the facts to this file.")] = "",
    stores: Annotated[
        list[str] | None, typer.Option("--store", metavar="DIR", help="A folder with snapshots besides the usual one.")
    ] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Give what the host's programs printed instead, for a bug report.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print diagnostics as JSON on standard output.")] = False,
) -> None:
    """Read this host, and print the facts that plans are made from.

    Nothing is changed. What could not be read is said on standard error.
    """
    _settings(context).json = as_json

    from domsnap import observing

    make = observing.printed if outputs else observing.document
    text, remarks = make(domains or (), stores or ())
    report(remarks, as_json=False)
    if output:
        from domsnap.saving import save

        save(output, text, "outputs" if outputs else "facts")
        complain(f"written to {output}")
    else:
        emit(text)


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
    form = form_of(form, as_json=as_json)
    _settings(context).json = form == "json"
    request = request_of(
        file, revert=revert, delete=delete, facts=facts, offline=offline, document=document,
        discard_current=discard_current, allow_drift=allow_drift,
    )  # fmt: skip

    from domsnap.planning import plans
    from domsnap.showing import only_one, show

    made = plans(request)
    if output or form in ("mermaid", "html"):
        only_one(made, "-o" if output else f"--format {form}")
    if output:
        from domsnap.saving import save

        save(output, made[0].text().encode(), "plan")
    show(made, form, verbose=verbose)
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
    request = request_of(
        file, revert=revert, delete=delete, facts=facts, offline=offline, document=document,
        discard_current=discard_current, allow_drift=allow_drift,
    )  # fmt: skip

    from domsnap.planning import plans
    from domsnap.showing import only_one
    from executor.script import script as printed

    made = plans(request)
    only_one(made, "a script")
    text = printed(made[0]).encode()
    if output:
        from domsnap.saving import save

        save(output, text, "script")
        complain(f"written to {output}, plan {made[0].id[:12]}")
    else:
        emit(text)


@app.command()
def apply(
    context: typer.Context,
    file: SpecFile,
    revert: Revert = False,
    delete: Delete = False,
    document: Document = "",
    discard_current: DiscardCurrent = False,
    allow_drift: AllowDrift = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    untested: Annotated[
        bool, typer.Option("--untested", help="Allow methods that were never run on a real host.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events, one JSON object a line.")] = False,
) -> int:
    """Carry a plan out, after showing it and asking.

    The host is observed first. Whatever fails before the last point of return is undone, with the guest running first.
    A saved plan is held against the host of now, and carried out once.
    """
    _settings(context).json = as_json
    request = request_of(
        file, revert=revert, delete=delete, facts="", offline=False, document=document,
        discard_current=discard_current, allow_drift=allow_drift,
    )  # fmt: skip

    from domsnap.applying import apply as carry_out
    from domsnap.applying import observed_for
    from domsnap.planning import is_saved, plans
    from domsnap.showing import only_one, show

    made = plans(request)
    only_one(made, "apply")
    return carry_out(
        made[0], yes=yes, as_json=as_json, untested=untested,
        fresh=observed_for(made[0]) if is_saved(request) else None,
        show=lambda: None if as_json else show(made, "text", verbose=False),
    )  # fmt: skip


@app.command("list")
def list_(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(metavar="[DOMAIN]", help="Only this domain.")] = "",
    store: Store = STORE,
    as_json: AsJson = False,
) -> int:
    """List the snapshots of the store, as a tree for each domain."""
    from domsnap.listing import overview

    _settings(context).json = as_json
    return overview(domain, store, as_json=as_json)


@app.command()
def show(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain.")],
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Its snapshot.")],
    store: Store = STORE,
    as_json: AsJson = False,
) -> int:
    """Show one snapshot: its memory, and what holds each disk."""
    from domsnap.listing import show as said

    _settings(context).json = as_json
    return said(domain, snapshot, store, as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(metavar="[DOMAIN]", help="Only this domain.")] = "",
    snapshot: Annotated[str, typer.Argument(metavar="[SNAPSHOT]", help="Only this snapshot of it.")] = "",
    store: Store = STORE,
    as_json: AsJson = False,
) -> int:
    """Look whether all that snapshots need is there and unaltered.

    Memory is compared with its digest, images and volumes are looked at; nothing is written. The exit status is 6 if
    something is lost or altered.
    """
    from domsnap.verifying import verify as look

    _settings(context).json = as_json
    return look(domain, snapshot, store, as_json=as_json)


@app.command()
def status(
    domain: Annotated[str, typer.Argument(metavar="[DOMAIN]", help="Only this domain.")] = "",
    store: Store = STORE,
    as_json: AsJson = False,
) -> int:
    """Say which plans were cut off, and what to do.

    The exit status is 0 if there is none, 6 if one waits for you.
    """
    from domsnap.settling import status as said

    return said(domain, store, as_json=as_json)


@app.command()
def resume(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain whose plan was cut off.")],
    store: Store = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print events, one JSON object a line.")] = False,
) -> int:
    """Finish a plan that was cut off.

    After its commit what is left is done; before it everything is undone, and the plan carried out anew.
    """
    from domsnap.settling import settle

    _settings(context).json = as_json
    return settle("resume", domain, store, as_json=as_json)


@app.command()
def abort(
    context: typer.Context,
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain whose plan was cut off.")],
    store: Store = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print events, one JSON object a line.")] = False,
) -> int:
    """Undo a plan that was cut off.

    After its commit that cannot be done any more; `resume` finishes it.
    """
    from domsnap.settling import settle

    _settings(context).json = as_json
    return settle("abort", domain, store, as_json=as_json)


@app.command()
def recover(
    context: typer.Context,
    boot: Annotated[bool, typer.Option("--boot", help="The machine has just booted; no domain was started yet.")],
    stores: Annotated[
        list[str] | None, typer.Option("--store", metavar="DIR", help="Another folder with snapshots than the usual.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events, one JSON object a line.")] = False,
) -> int:
    """Settle at boot what a power cut has left.

    Before its commit a plan is undone, after it finished, and no domain is started. For the systemd unit
    domsnap-recover.service; the exit status is 6 if something needs attention.
    """
    from domsnap.settling import boot as settle

    _settings(context).json = as_json
    if not boot:
        raise typer.BadParameter("only recovery at boot is there; `domsnap resume` and `abort` are for now")
    return settle(stores or [STORE], as_json=as_json)


@app.command()
def man() -> None:
    """Print the manual page: `domsnap man | man -l -` shows it."""
    from domsnap.manual import manual

    emit(manual(command()).encode())
