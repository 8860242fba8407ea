"""How large a memory image gets, and for how long the guest stands still while it is written."""

from __future__ import annotations

from planner.draft import Draft
from planner.facts import Record
from planner.refusals import live_objection

_MIB = 2**20
# Bytes a second that xl save is taken to write where none was measured; 50-80 MiB/s were seen on an emulated host.
_SLOW, _FAST = 50 * _MIB, 500 * _MIB
# How long it takes that space. What is made of it is not asked for: where there is no room for that, it is not made.
_UNTIL = {"": "", "compact": ", until it is compacted", "zst": ", until it is compressed to a file beside it"}


def image_size(memory: int) -> int:
    """Return the bytes of a memory image: each 4096-byte page with its 8-byte number, and room for device state."""
    return memory + memory // 256 + 32 * _MIB


def estimate_memory(draft: Draft, record: Record) -> None:
    """Ask for the space of the memory image, and guess how long the guest stands still for it."""
    memory, rate, image = draft.domain.memory, draft.facts.host.save_rate, record.memory
    size, until = image_size(memory), _UNTIL[record.shrink]
    if draft.live:
        limits = draft.spec.memory.give_up
        most = limits.bytes(memory) if limits else 0
        if 0 < most < 2 * size:
            what = f"memory image, which is given up at that size{until}"
        else:
            most, what = 2 * size, f"memory image, twice: a live one holds again each page that changes{until}"
        draft.need(image, most, what)
        draft.stop(100, 1000, "a live capture stops the guest for its last dirty pages only")
        return
    draft.need(image, size, f"memory image{until}")
    if rate:
        low, high, basis = (
            0.8 * size / rate,
            1.5 * size / rate,
            f"xl save wrote {rate // _MIB} MiB/s when last measured here",
        )
    else:
        low, high, basis = size / _FAST, size / _SLOW, "xl save at an assumed 50-500 MiB/s: none was measured here yet"
    draft.stop(1000 * low + 200, 1000 * high + 1000, basis)
    if not live_objection(draft) and not draft.offline:
        draft.stop(0, 0, "`capture: live` is possible here, and stops it for about 0.1-1 s")
