"""Which states of a domain allow which verb, and the reason where they do not."""

from __future__ import annotations

from planner.draft import Draft
from planner.plan import Plan, monitors
from schema.diagnostic import Refused

_CREATE: dict[str, tuple[str, str]] = {
    "paused": (
        "xl cannot save a paused domain: its guest cannot answer the request to suspend, and xl waits 60 s for it",
        "let it run first, unless something is at work on it: xl unpause {domid}",
    ),
    "suspended": (
        "a save or a migration is at work on it, or was cut off",
        "if none is: xl resume {domid}, or before Xen 4.20: xl save -c {domid} FILE, which lets it go on",
    ),
    "shut-down": (
        "xl cannot save a domain that has shut down: it hangs for 60 s",
        "start it again, or copy its disks by hand",
    ),
    "crashed": ("xl cannot save a crashed domain: it hangs for 60 s", "destroy it and start it again"),
    "rebooting": ("it is rebooting", "wait until it has started again, then plan again"),
    "dying": ("it is being destroyed", "wait until it is gone"),
    # xl takes back no request that the guest has not answered when it gives it up after 60 s (seen on 4.20).
    "shutting-down": (
        "it is shutting down: a snapshot now would hold a half-stopped guest",
        (
            "wait until it is off; a request that its guest never heard stays until it is taken back: "
            "xenstore-write /local/domain/{domid}/control/shutdown ''"
        ),
    ),
    "off": (
        "it has no memory to save, and a snapshot is memory and disks at one instant",
        "start it, or copy its disks by hand",
    ),
}
_REVERT: dict[str, tuple[str, str]] = {
    "paused": (
        "the present could not be saved: xl cannot save a paused domain",
        (
            "let it run first, unless something is at work on it: xl unpause {domid}; "
            "or give up the present with --discard-current"
        ),
    ),
    "suspended": (
        "the present could not be saved: a save or a migration is at work on it, or was cut off",
        (
            "if none is: xl resume {domid}, or before Xen 4.20: xl save -c {domid} FILE; "
            "or give up the present with --discard-current"
        ),
    ),
    "dying": ("it is being destroyed", "wait until it is gone"),
    "shutting-down": ("it is shutting down", "wait until it is off, then revert"),
    "rebooting": ("it is rebooting", "wait until it has started again, then plan again"),
}
_DELETE: dict[str, tuple[str, str]] = {
    state: reason for state, reason in _REVERT.items() if state in ("dying", "shutting-down", "rebooting")
}


def refuse_state(draft: Draft, *, discard: bool = False) -> None:
    """Refuse the draft if its domain's state does not allow the verb; says why and what to do."""
    domain = draft.domain
    table = {"create": _CREATE, "revert": _REVERT, "delete": _DELETE}[draft.verb]
    reason = table.get(domain.state)
    if reason is None or (discard and domain.state in ("paused", "suspended")):
        return
    detail, hint = (text.format(domid=domain.domid) for text in reason)
    draft.refuse(f"the domain is {domain.state.replace('-', ' ')}", f"{domain.name}: {detail}", hint, "domain")


def refuse_features(draft: Draft) -> None:
    """Refuse what xl cannot save at all, or what no snapshot could hold."""
    domain = draft.domain
    if domain.vnuma:
        draft.refuse(
            "xl cannot save this domain",
            f"{domain.name} has a vNUMA configuration (libxl: Cannot save a guest with vNUMA configured)",
            "remove `vnuma` from its configuration",
            "domain",
        )
    for device in domain.devices:
        draft.refuse(
            "a device cannot be saved",
            f"{domain.name} has {device}, whose state xl cannot save",
            f"detach {device} first",
            "domain",
        )
    if domain.qemu and domain.qemu.jobs:
        draft.refuse(
            "a block job is running",
            f"the QEMU of {domain.name} is at work on {', '.join(domain.qemu.jobs)}",
            "wait for its end, or cancel it",
            "domain",
        )


def refuse_starting(draft: Draft, plan: Plan) -> None:
    """Raise Refused if the plan asks QEMU for anything while the guest may yet go over to its PV drivers.

    QEMU has each image open twice until then, once for either kind of drive (light/libxl_dm.c; seen on 4.20), and only
    one of the two can be worked on: the guest would write to a frozen image by the other, or by clusters shared since.
    """
    domain = draft.domain
    if not domain.starting or not monitors(plan):
        return
    draft.refuse(
        "the guest is still starting",
        f"{domain.name} reads its disks by the emulated drives, its PV drivers are not up, and it has hardly written"
        " anything: should it go over to them now, what QEMU did to its disks would not hold for the new ones",
        "wait until its system is up and has written something, then plan again",
        "domain",
    )
    raise Refused(draft.refusals)


def refuse_compressed(draft: Draft, *path: str) -> None:
    """Refuse what takes a compressed memory image on a host without zstd; `path` is what of the spec asks for it."""
    if not draft.facts.host.zstd and not draft.offline:
        what = "is to be compressed by" if draft.verb == "create" else "can only be read by"
        draft.refuse(
            "no zstd on this host",
            f"the snapshot's memory image {what} zstd, which is not installed",
            "apt install zstd" + (", or leave `compress` out" if draft.verb == "create" else ""),
            *path,
        )


def refuse_live(draft: Draft) -> None:
    """Refuse a live capture where Xen cannot track the pages that a guest writes to (log-dirty), and one that would
    be given up whatever the guest does."""
    limits, memory = draft.spec.memory.give_up, draft.domain.memory
    if limits and 0 < limits.bytes(memory) <= memory:
        draft.refuse(
            "a live capture that is always given up",
            f"{draft.domain.name} has {memory // 2**20} MiB of memory, which is written once at least",
            "give `size` more than that, such as 3x",
            "memory",
            "give_up",
            "size",
        )
    missing = live_objection(draft)
    if missing:
        draft.refuse(
            "no live capture on this host",
            missing,
            "use `capture: paused`",
            "memory",
            "capture",
        )


def live_objection(draft: Draft) -> str:
    """Say why a live capture is not possible, "" if it is: it needs hap for PVH and HVM, shadow paging for PV."""
    need = "shadow" if draft.domain.type == "pv" else "hap"
    if need in draft.facts.host.virt_caps or draft.offline:
        return ""
    what = "a PV domain needs shadow paging" if need == "shadow" else f"a {draft.domain.type.upper()} domain needs hap"
    return f"{what} for that, and xl info's virt_caps name {' '.join(draft.facts.host.virt_caps) or 'nothing'}"
