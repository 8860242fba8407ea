"""A plan as a POSIX shell script that does the same as apply: to be reviewed, kept and run without domsnap."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from posixpath import dirname
from typing import TYPE_CHECKING, assert_never

from executor import by_hand
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
from planner.plan import Plan, Step, introduced, monitors, no_return, rollback

if TYPE_CHECKING:
    from jinja2 import Template

_USAGE = """usage: sh {name} [--check{or_whole}]

Run it as root on the plan's host. --check runs the checks that come before the first
change, and changes nothing.{whole}

exit status: 0 done; 1 a check failed or wrong usage, nothing changed; 3 the domain is
not the one that was planned for: plan again; 4 locked; 5 failed, everything undone;
6 failed, attention needed: what is left is said; 128+n ended by signal n"""


def script(plan: Plan) -> str:
    """Return the script; the same plan gives the same bytes."""
    commands = [c for step in plan.steps for c in (*step.checks, *step.do, *step.after, *step.undo)]
    live = any(isinstance(command, Capture | Release) for command in commands)
    subject = plan.domains[0]
    folder = f"{plan.store}/{subject.name}"
    helper = live or any(isinstance(command, Qmp | AwaitJob | Seal) for command in commands)
    rest, undos_by_hand = "\n".join(_indent(_rest(plan))), "\n".join(_indent(_undos_by_hand(plan)))
    return _template().render(
        header=_header(plan, helper),
        usage=_usage(f"{subject.name}-{plan.snapshot}.sh", helper),
        plan=plan.id,
        total=len(plan.steps),
        folder=quote(folder),
        lock=f"${{DOMSNAP_RUN:-/run/domsnap}}/{quote(subject.uuid)}.lock",
        journal=quote(f"{folder}/journal"),
        helper=helper,
        companion=_companion(live),
        live=live,
        piped=any(isinstance(command, Run) and command.input for command in commands),
        receiver=_file("receive.py").strip(),
        memory=subject.memory,
        undos="\n".join(_undo(step) for step in plan.steps if step.undo),
        rollback="\n".join(_indent(_rollback(plan))) or "  :",
        undos_by_hand=undos_by_hand or "  :",
        rest=rest or "  :",
        own_name="$self" in rest + undos_by_hand,
        steps="\n".join(line for step in plan.steps for line in _step(step, plan)),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined  # slow to load, and only scripts need it

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False)  # noqa: S701  # shell text; every word goes through quote()
    return environment.from_string(_file("templates/script.sh.j2"))


def _file(name: str) -> str:
    return (files("executor") / name).read_text(encoding="utf-8")


@cache
def _companion(live: bool = False) -> str:
    """Return the companion, with what it needs of our other modules, as one program: one place for each fact."""
    names = ["stream", "migrate", "companion", "live_companion"] if live else ["stream", "companion"]
    trees = {name: ast.parse(_file(f"{name}.py")) for name in names}
    about = ast.get_docstring(trees["companion"], clean=False)
    bodies = [_body(name, tree, program=name == names[-1]) for name, tree in trees.items()]
    return "\n\n\n".join([f'"""{about}"""\n\n{_imports(trees.values())}', *bodies])


def _imports(trees: Iterable[ast.Module]) -> str:
    """Return what modules import that is not ours."""
    plain, named = set[str](), dict[str, set[str]]()
    for node in (node for tree in trees for node in tree.body):
        if isinstance(node, ast.Import):
            plain.update(each.name for each in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("executor"):
            named.setdefault(node.module, set()).update(each.name for each in node.names)
    return "\n".join(
        [f"import {name}" for name in sorted(plain)]
        + [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(named.items())]
    )


def _body(name: str, tree: ast.Module, *, program: bool) -> str:
    """Return what follows a module's imports; what it does as a program is left out if another one is it."""
    first = max(node.end_lineno or 0 for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    last = None if program or not isinstance(tree.body[-1], ast.If) else tree.body[-1].lineno - 1
    return "".join(_file(f"{name}.py").splitlines(keepends=True)[first:last]).strip()


def _usage(name: str, helper: bool) -> str:
    or_whole, whole = (" | --whole IMAGE", " --whole says whether a memory image is complete.") if helper else ("", "")
    return _USAGE.format(name=name, or_whole=or_whole, whole=whole)


def _header(plan: Plan, helper: bool) -> str:
    said = [f"{plan.verb} snapshot {plan.snapshot} of {', '.join(domain.name for domain in plan.domains)}"]
    said += [plan.description] if plan.description else []
    said += ["", f"plan      {plan.id}", f"spec      {plan.spec or '-'}", f"host      {plan.host}"]
    for domain in plan.domains:
        number = "off" if domain.domid is None else f"domain {domain.domid}"
        said.append(f"domain    {domain.name}, {number}, {domain.type}, UUID {domain.uuid}")
    said.append(f"observed  {plan.observed or 'nothing: planned offline'}")
    said += [f"stops     {stop.domain} for {stop.low}-{stop.high} ms: {stop.basis}" for stop in plan.stops]
    said += [f"needs     {row.needs} bytes in {row.place}: {row.what}" for row in plan.space]
    said += [f"DESTROYS  {line}" for line in plan.destroys] or ["destroys  nothing"]
    said += [f"WARNING   {warning.text}" for warning in plan.warnings]
    said += [f"UNTESTED  {method}: never run on a real host" for method in plan.untested]
    said += ["", *_usage("THIS-FILE", helper).split("\n")]
    return "\n".join(_comment(line) for line in said)


def _comment(text: str) -> str:
    """Return comment lines; nothing in a text can end the comment."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return "\n".join(f"# {line}".rstrip() for line in textwrap.wrap(shown, 112, subsequent_indent="  ") or [""])


def _step(step: Step, plan: Plan) -> Iterator[str]:
    number = step.number
    yield ""
    yield _comment(f"Step {number} of {len(plan.steps)}, {step.phase}: {step.title}")
    if step.why:
        yield _comment(f"({step.why})")
    yield f"current={number}"
    yield f"begin {number} {quote(step.title)}"
    # A domain that is not the one that was planned for makes the plan stale: exit status 3.
    stale = " 3" if step.effect == "check" and step.subject == "domain" else ""
    for command in step.checks:
        yield from lines(command, f"fail {number}{stale}")
    if step.effect != "check":
        yield f"arm {number}"
        if no_return(step, plan):
            yield f"no_return {number}"
    for command in (*step.do, *step.after):
        yield from lines(command, f"fail {number}")
    yield f"end {number}"
    thaw = max((each.number for each in plan.steps if each.phase == "thaw"), default=0)
    if step.commit:
        yield "committed=yes"
        if number < thaw:
            yield "# No signal may come between this and the guest."
            yield "hold_signals"
    if number == thaw:
        yield "catch"
    if number == introduced(plan) and (connected := monitors(plan)):
        yield ""
        yield "# The monitors are connected and negotiated with now: nothing of that is left to the freeze."
        yield f"ask {quote(canonical({'connect': connected}))} || fail {number}"


def lines(command: Command, failure: str) -> Iterator[str]:
    """Yield the shell lines of one command; `failure` is what is done when it fails."""
    match command:
        case Run(when=when, unless=unless) if when or unless:
            asked = ([f"probe {join(when)}"] if when else []) + ([f"! probe {join(unless)}"] if unless else [])
            yield f"if {' && '.join(asked)}; then"
            yield f"  {_run(command)} || {failure}"
            yield "fi"
        case Run():
            yield f"{_run(command)} || {failure}"
        case Qmp() | AwaitJob() | Seal():
            yield f"ask {quote(canonical(to_json(command)))} || {failure}"
        case Write(path=path, text=text):
            yield f"write {quote(path)} {quote(text)} || {failure}"
        case Rename(source=source, target=target):
            yield f"rename {quote(source)} {quote(target)} || {failure}"
            folders = dict.fromkeys((dirname(target), dirname(source)))
            yield f"run sync -- {join(tuple(folders))} || {failure}"
        case Compact(image=image):
            makes = " and ".join(["compact"] * command.pages + ["compress"] * bool(command.through))
            yield _comment(f"{image} stays as it came: `domsnap apply` would {makes} it, a script does not")
        case Capture():
            yield f"capture {quote(canonical(to_json(command)))} || {failure}"
        case Release():
            yield f"release {quote(canonical(to_json(command)))} || {failure}"
        case _:
            assert_never(command)


def _run(command: Run) -> str:
    words = f"run {join(command.argv)}"
    if (command.status, command.prints, command.lacks, command.tolerates, command.within) != (0, "", "", "", 0):
        said = (str(command.status), command.prints, command.lacks, command.tolerates, str(command.within))
        words = f"expect {join(said)} {join(command.argv)}"
    return f"{{ feed {join(command.input)} | fed {words} && fed_whole; }}" if command.input else words


def _undo(step: Step) -> str:
    body = [line for command in step.undo for line in lines(command, "return 1")]
    return "\n".join(
        ["", _comment(f"Undo step {step.number}: {step.title}"), f"undo_{step.number}() {{", *_indent(body), "}"]
    )


def _rollback(plan: Plan) -> Iterator[str]:
    undoable = {step.number for step in plan.steps if step.undo}
    for step in rollback(plan.steps):
        needs = "".join(f" {number}" for number in step.undo_needs if number in undoable)
        yield f"undo {step.number} undo_{step.number}{needs}"


def _undos_by_hand(plan: Plan) -> Iterator[str]:
    for step in rollback(plan.steps):
        yield f'case "$bad " in *" {step.number} "*)'
        yield from _told(step.undo)
        yield "  ;;"
        yield "*) ;;"
        yield "esac"


def _rest(plan: Plan) -> Iterator[str]:
    for step in plan.steps:
        if step.number > plan.commit and (told := list(_told(step.do))):
            yield f'if [ "$1" -le {step.number} ]; then'
            yield from told
            yield "fi"


def _told(commands: tuple[Command, ...]) -> Iterator[str]:
    for line in by_hand.lines(commands):
        if line.startswith(by_hand.WHOLE):
            yield f"  say \"    sh '$self' --whole\"{quote(line.removeprefix(by_hand.WHOLE))}"
        else:
            yield f"  say {quote(f'    {line}')}"


def _indent(body: Iterator[str] | list[str]) -> list[str]:
    return [f"  {line}" for line in body]
