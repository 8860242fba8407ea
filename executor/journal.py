"""The journal of one plan: a line, made durable, before and after each thing that changes the host.

It begins with the plan itself, so that what a killed process left can be finished or undone by the next one, with the
same commands. Its name is the plan's id: a plan is carried out once.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from executor.durable import sync_folder
from executor.lock import now
from planner.plan import Plan, Step, plan_from_json

FOLDER = "applied"
VERSION = 1


class Journal:
    """An open journal; `note` adds a line."""

    def __init__(self, path: Path, *, new: bool) -> None:
        """Open it; raises FileExistsError if a new one is there already, FileNotFoundError if an old one is not."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self.path = path
        self.file = os.open(path, flags | (os.O_CREAT | os.O_EXCL if new else 0), 0o600)

    def note(self, event: str, *, sync: bool = True, **said: Any) -> None:
        """Add a line; raises OSError. Not durable with sync=False: it survives this process, not the machine."""
        line = json.dumps({"at": now(), "event": event, **said}, separators=(",", ":"), ensure_ascii=False)
        data = f"{line}\n".encode("utf-8", "surrogateescape")
        if os.write(self.file, data) != len(data):
            raise OSError(28, "no space left for the journal", str(self.path))
        if sync:
            os.fdatasync(self.file)

    def close(self) -> None:
        os.close(self.file)


def applied(plan: Plan) -> str:
    """Say when a plan was carried out, or begun and not undone; "" if it was not. Raises ValueError for no journal."""
    try:
        past = read(Path(plan.store, plan.domains[0].name, FOLDER, f"{plan.id}.jsonl"))
    except FileNotFoundError:
        return ""
    return past.since if past.status in (None, 0, 6) else ""


def begin(plan: Plan, folder: Path) -> Journal:
    """Return the journal of a plan that is about to be carried out, in the folder of its domain.

    Raises FileExistsError if the plan was carried out before, or begun and neither finished nor undone.
    """
    place = folder / FOLDER
    place.mkdir(mode=0o700, exist_ok=True)
    path = place / f"{plan.id}.jsonl"
    if path.exists() and read(path).status not in (None, 0, 6):
        journal = Journal(path, new=False)
        journal.note("again", boot=boot())
        return journal
    journal = Journal(path, new=True)
    journal.note("plan", version=VERSION, plan=json.loads(plan.text()), boot=boot())
    for each in (place, folder):
        sync_folder(each)
    return journal


@dataclass(slots=True)
class Past:
    """What a journal says was done: numbers of the steps armed, undone and done, commands done by step.

    status: the exit status if the run came to its end. child: pid and start time of the program that ran last.
    boot: the machine's boot id then. rebooted: the machine has, since the plan was begun.
    captured: pid and start time of the xl and the receiver of a live capture.
    """

    plan: Plan
    since: str
    armed: list[int] = field(default_factory=list)
    undone: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)
    commands: dict[int, int] = field(default_factory=dict)
    child: tuple[int, int] | None = None
    status: int | None = None
    boot: str = ""
    rebooted: bool = False
    captured: list[tuple[int, int]] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether something is left to finish or to undo: it was cut off, or ended with 6."""
        return self.status in (None, 6)

    @property
    def committed(self) -> bool:
        return self.plan.commit in self.done

    @property
    def left(self) -> list[Step]:
        return [step for step in self.plan.steps if step.number not in self.done]


def read(path: Path) -> Past:
    """Return what a journal says; raises ValueError if it is none. A last line that was cut off counts for nothing."""
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True)
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    if not whole or whole[0].get("event") != "plan":
        raise ValueError(f"{path} does not begin with a plan")
    if whole[0].get("version") != VERSION:
        raise ValueError(f"{path} is of version {whole[0].get('version')}; this domsnap reads {VERSION}")
    past = Past(plan_from_json(whole[0]["plan"]), whole[0]["at"])
    for line in whole:
        before, past.boot = past.boot, line.get("boot", past.boot)
        past.rebooted |= past.boot != before != ""
        match line:
            case {"event": "again", "at": since}:
                past = Past(past.plan, since, boot=past.boot)
            case {"event": "arm", "step": number}:
                past.armed.append(number)
            case {"event": "child", "pid": pid, "started": started}:
                past.child = (pid, started)
            case {"event": "captured", "pid": pid, "started": started}:
                past.captured.append((pid, started))
            case {"event": "did", "step": number, "command": count}:
                past.commands[number] = count
            case {"event": "done", "step": number}:
                past.done.add(number)
            case {"event": "undone", "step": number}:
                past.undone.add(number)
            case {"event": "end", "status": status}:
                past.status = status
            case _:
                pass
    past.rebooted |= past.boot not in ("", boot())
    return past


def boot() -> str:
    """Return the id that the kernel gave this boot of the machine (random(4)); "" if it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def started(pid: int) -> int:
    """Return when a process began, in clock ticks after the machine did (field 22 of /proc/PID/stat, proc(5)); 0 if it
    has ended, also if nobody has taken note of that, as in a container whose first process does not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    except (OSError, IndexError, ValueError):
        return 0
