"""The options that the commands share, what each says in the help, and which of them do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from domsnap.planning import Request

Format = Literal["text", "json", "mermaid", "html"]

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
Store = Annotated[str, typer.Option("--store", metavar="DIR", help="The folder with the snapshots.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, diagnostics too.")]


def form_of(form: Format | None, *, as_json: bool) -> Format:
    """Return the form to show a plan in; raise UsageError for options that do not go together."""
    if as_json and form not in (None, "json"):
        raise _usage(f"--json and --format {form} do not go together")
    return "json" if as_json else form or "text"


def request_of(
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
