"""What `status`, `resume` and `abort` do: plans that a killed domsnap has left, said, finished or undone."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from domsnap.applying import say
from domsnap.door import Ended, emit, emit_text
from domsnap.terminal import safe
from domsnap.told import title
from schema.diagnostic import Diagnostic, Refused
from schema.spec import DEFAULT_STORE as STORE

if TYPE_CHECKING:
    from executor.journal import Past


def status(domain: str, store: str, *, as_json: bool) -> int:
    """Print each plan that did not come to its end, each xl monitor that was left held and each domain that was left
    suspended, and what to do; 0 if there is none, else 6."""
    from executor import lock
    from executor.left import suspended
    from executor.look.processes import stopped_monitors
    from executor.migrate import by_library

    left = _unfinished(domain, store)
    rows = [(past, lock.holder(past.plan.domains[0].uuid)) for _, past in left]
    busy = {past.plan.domains[0].name for past, held in rows if held}
    forgotten = [(name, pid) for name, pid in stopped_monitors() if domain in ("", name) and name not in busy]
    still = [(name, domid) for name, domid in suspended() if domain in ("", name) and name not in busy]
    attention = 6 if forgotten or still or any(not held for _, held in rows) else 0
    if as_json:
        emit(
            (
                json.dumps(
                    {
                        "version": 1,
                        "unfinished": [_json(past, held) for past, held in rows],
                        "stopped_monitors": [{"domain": name, "pid": pid} for name, pid in forgotten],
                        "suspended": [{"domain": name, "domid": domid} for name, domid in still],
                    },
                    indent=2,
                )
                + "\n"
            ).encode()
        )
        return attention
    if not attention and not rows:
        emit_text("nothing is unfinished\n")
    for past, held in rows:
        emit_text(_text(past, held, store))
    for name, pid in forgotten:
        emit_text(f"{safe(name)}: its xl monitor stands still: without it a reboot leaves the domain dead\n")
        if not any(past.plan.domains[0].name == name for past, _ in rows):
            emit_text(f"  no plan of this store holds it; let it go on: kill -s CONT {pid}\n")
    for name, domid in still:
        emit_text(f"{safe(name)}: its guest stands still, suspended; unless a save or a migration is at work on it:\n")
        emit_text(f"  xl resume -- {domid}\n  or before Xen 4.20, which has no such command:\n  {by_library(domid)}\n")
    return attention


def settle(how: Literal["resume", "abort"], domain: str, store: str, *, as_json: bool) -> int:
    """Finish or undo the plan that was cut off on a domain; returns the exit status. Raises Refused if none was."""
    from executor import recover
    from executor.lock import Locked

    left = _unfinished(domain, store)
    if not left:
        raise Refused([Diagnostic("nothing is unfinished", f"{store} holds no plan for {domain} that was cut off", "")])
    tell = say(as_json)
    try:
        status = {"resume": recover.resume, "abort": recover.abort}[how](left[0][0], tell)
    except Locked as locked:
        raise Ended(4, f"domsnap: {domain} is locked: {locked}") from None
    if status == 0:
        tell("end", "done")
    return status


def boot(stores: Collection[str], *, as_json: bool) -> int:
    """Settle what a power cut has left in these stores; return 0, or 6 if something needs attention."""
    from executor.boot import recover

    tell = say(as_json)
    settled = [recover(store, tell) for store in dict.fromkeys(stores)]
    tell("end", "see `domsnap status`" if any(settled) else "nothing is left unfinished")
    return max(settled, default=0)


def _unfinished(domain: str, store: str) -> list[tuple[Path, Past]]:
    from executor.left import unfinished

    try:
        return list(unfinished(store, domain))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused([Diagnostic("a journal cannot be read", str(error), "")]) from None


def _text(past: Past, held: str, store: str) -> str:
    plan = past.plan
    name = safe(plan.domains[0].name)
    at = f"step {past.armed[-1]} of {len(plan.steps)}" if past.armed else "its checks"
    if held:
        return f"{name}: {title(plan)} is at work, in {at}: {safe(held)}\n"
    where = "" if store == STORE else f" --store {safe(store)}"
    how = "failed" if past.status else "was cut off"
    lines = [f"{name}: {title(plan)} {how} in {at}; it began at {past.since}"]
    if past.committed:
        lines.append(f"  it is past its commit: `domsnap resume {name}{where}` finishes it")
    else:
        lines.append(
            f"  `domsnap abort {name}{where}` undoes it; `domsnap resume {name}{where}` then carries it out anew"
        )
    return "\n".join(lines) + "\n"


def _json(past: Past, held: str) -> dict[str, object]:
    plan = past.plan
    return {
        "domain": plan.domains[0].name, "verb": plan.verb, "snapshot": plan.snapshot, "plan": plan.id,
        "since": past.since, "step": past.armed[-1] if past.armed else 0, "steps": len(plan.steps),
        "committed": past.committed, "failed": bool(past.status), "held": held,
    }  # fmt: skip
