"""The compiler's door: a verb, a spec and facts in, a plan out, or every reason why not."""

from __future__ import annotations

from planner.create import create
from planner.delete import delete
from planner.draft import Draft
from planner.facts import Facts, Record
from planner.offline import offline_facts
from planner.plan import Plan, Verb
from planner.refusals import refuse_starting
from planner.revert import revert
from schema.diagnostic import Diagnostic, Refused
from schema.spec import Spec

__all__ = ["compile_plan", "offline_facts"]


def compile_plan(
    verb: Verb,
    spec: Spec,
    facts: Facts,
    *,
    discard_current: bool = False,
    allow_drift: bool = False,
    offline: bool = False,
) -> Plan:
    """Return the plan; a pure function: the same arguments give the same bytes.

    discard_current: a revert gives up the present. allow_drift: it goes on although the domain's disks have changed.
    offline: the facts were taken from the spec. Raises Refused with every reason at once.
    """
    if offline and verb != "create":
        detail = f"what {spec.domain}/{spec.snapshot} holds is known to its host alone"
        raise Refused(
            [Diagnostic(f"no {verb} can be planned offline", detail, "use facts saved on the host: --facts FILE")]
        )
    domain = facts.domain(spec.domain)
    if domain is None:
        raise Refused([_unknown(spec, facts)])
    folder = f"{spec.store}/{domain.name}/{spec.snapshot}"
    live = verb == "create" and spec.memory.capture == "live"
    draft = Draft(verb, spec, facts, domain, folder, live=live, offline=offline)
    _hold_assumptions(draft)
    match verb:
        case "create":
            if spec.snapshot.startswith("pre-revert-"):
                detail = (
                    f"{spec.snapshot}: names that begin with pre-revert- are those of presents that a revert has saved"
                )
                draft.refuse("a reserved name", detail, "choose another name", "snapshot")
            there = facts.record(domain.name, spec.snapshot)
            if there is not None:
                return _already(draft, there)
            create(draft)
        case "revert":
            revert(draft, discard=discard_current, allow_drift=allow_drift)
        case "delete":
            delete(draft)
    plan = draft.plan()
    refuse_starting(draft, plan)
    return plan


def _unknown(spec: Spec, facts: Facts) -> Diagnostic:
    from difflib import get_close_matches  # imported late: it is slow to load, and only errors need it

    names = [domain.name for domain in facts.domains]
    close = get_close_matches(spec.domain, names, 1, 0.6)
    where = spec.where("domain")
    text = spec.lines[where.line - 1] if where and where.line <= len(spec.lines) else ""
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    detail = f"{facts.host.name} has no domain {spec.domain}; it has {shown or 'none'}"
    return Diagnostic("no such domain", detail, f"did you mean {close[0]!r}?" if close else "", where, "domain", text)


def _hold_assumptions(draft: Draft) -> None:
    """Hold the spec's `assume` against the facts."""
    assume, domain, host = draft.spec.assume, draft.domain, draft.facts.host
    if assume is None:
        return
    qemu = domain.qemu.version if domain.qemu else assume.qemu
    pairs = (
        ("xen", assume.xen, host.xen),
        ("qemu", assume.qemu, qemu),
        ("domid", assume.domid, domain.domid),
        ("uuid", assume.uuid, domain.uuid),
        ("type", assume.type, domain.type),
        ("memory", assume.memory, domain.memory),
    )
    for key, wanted, found in pairs:
        if wanted != found:
            draft.refuse("the spec and the host disagree", f"{key} is {found}, not {wanted}", "", "assume", key)


def _already(draft: Draft, record: Record) -> Plan:
    """Return an empty plan if the snapshot is there and as the spec declares it; refuse with the difference if not."""
    spec, name = draft.spec, f"{draft.domain.name}/{record.snapshot}"
    differs = []
    if record.state != "complete":
        differs.append(("state", "it is being deleted"))
    if record.uuid != draft.domain.uuid:
        differs.append(("domain", f"it is of the domain {record.uuid}; {draft.domain.name} is {draft.domain.uuid}"))
    if record.capture != spec.memory.capture:
        differs.append(("memory", f"its capture was {record.capture}"))
    held = {each.vdev: each for each in record.disks}
    for disk in spec.disks:
        there = held.get(disk.vdev)
        if disk.method and (there is None or there.method != disk.method):
            differs.append((f"disks.{disk.vdev}", f"it holds {disk.vdev} by {there.method if there else 'nothing'}"))
    for path, difference in differs:
        hint = "choose another name for the snapshot, or delete the one that is there"
        draft.refuse("a snapshot of this name exists and differs", f"{name}: {difference}", hint, *path.split("."))
    draft.note = f"{name} exists and is what the spec declares"
    return draft.plan()
