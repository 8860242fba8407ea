"""What a plan amounts to, in words and numbers: every view of a plan takes them from here, so no two can disagree."""

from __future__ import annotations

import re
from collections import Counter

from domsnap.course import course, running
from domsnap.terminal import safe
from domsnap.units import duration
from planner.commands import AwaitJob, Capture, Command, Compact, Qmp, Release, Rename, Run, Seal, Write
from planner.operation import Effect
from planner.plan import Plan, Space, Step, Verb

# The symbols suffice without colour.
SYMBOLS: dict[Effect, str] = {"check": "<", "create": "+", "change": "~", "destroy": "-", "stop": "!", "go": ">"}
_TITLES = {
    "create": "take snapshot {snapshot} of {domains}",
    "revert": "revert {domains} to snapshot {snapshot}",
    "delete": "delete snapshot {snapshot} of {domains}",
}
# Where what a snapshot holds of a disk will be, comes from, or is.
HELD: dict[Verb, str] = {"create": "kept in", "revert": "from", "delete": "held in"}
# Programs that say by their first argument what they do.
_WITH_VERB = ("xl", "qemu-img", "tap-ctl", "vhd-util")
# What of a command's words is shown where there is little room.
_SHORT = {"blockdev-snapshot-delete-internal-sync": "delete snapshot"}
_LOOKS = ("test", "lvs", "cat", "readlink", "sha256sum", "zstd", "xl list", "xl domid")


def title(plan: Plan) -> str:
    """Return what the plan does, as an imperative."""
    names = " and ".join(each.name for each in plan.domains)
    return safe(_TITLES[plan.verb].format(snapshot=plan.snapshot, domains=names))


def tally(plan: Plan) -> dict[str, int]:
    """Return how many steps create, change and destroy something."""
    counts = Counter(step.effect for step in plan.steps)
    return {"create": counts["create"], "change": counts["change"], "destroy": counts["destroy"]}


def pause(plan: Plan) -> str:
    """Return whether, how often and for how long guests stand still, in short: "guest stops once, 8.3 to 14 s"."""
    moments = list(course(plan))
    times = sum(moment.stops for moment in moments)
    if times:
        often = {1: "once", 2: "twice"}.get(times, f"{times} times")
        stays = "" if len(running(plan)) >= len(plan.domains) else " and does not run again"
        who = "guest stops" if len(plan.domains) == 1 else "guests stop"
        return f"{who} {often}{stays}{f', {long}' if (long := how_long(plan)) else ''}"
    if any(moment.goes for moment in moments):
        return "guest starts"
    if all(domain.state == "running" for domain in plan.domains):
        return "guest runs on throughout"
    return "guest stays off" if all(domain.state == "off" for domain in plan.domains) else "guest is left as it is"


def how_long(plan: Plan, domain: str = "") -> str:
    """Return the guess of how long the guest of a domain, or the one that stops longest, stands still; "" for none."""
    stops = [stop for stop in plan.stops if domain in ("", stop.domain)]
    return duration(max(stop.low for stop in stops), max(stop.high for stop in stops)) if stops else ""


def alters(step: Step) -> bool:
    """Return whether a step leaves something behind that an undo would have to take back."""
    return step.effect not in ("check", "go")


def undo_end(plan: Plan) -> int:
    """Return the number of the last step whose failure undoes everything; 0 if no step's does."""
    last = plan.commit or max((step.number for step in plan.steps), default=0)
    if not any(step.undo and step.number <= last for step in plan.steps):
        return 0
    firm = [step.number for step in plan.steps if not step.undo and alters(step)]
    return min([last, *(number - 1 for number in firm)])


def undone(plan: Plan) -> str:
    """Return up to where a failure undoes everything, as a sentence."""
    end = undo_end(plan)
    if not end:
        return "Nothing is undone when a step fails: mend the cause and run it again."
    if end == plan.steps[-1].number:
        return "A failure in any step undoes everything."
    if end == plan.commit:
        return f"A failure up to step {end} undoes everything; a later one is reported."
    return f"A failure before step {end + 1} undoes everything; from step {end + 1} on, not all can be undone."


def nearby(text: str, path: str) -> str:
    """Return `text` with the files in the folder of `path` named without it, for where the path itself is shown."""
    folder = path.rpartition("/")[0]
    return re.sub(rf"(?<!\S){re.escape(folder)}/(?=[^/\s]+(?!\S*/))", "", text) if folder else text


def place(row: Space) -> str:
    """Return where space is needed, to follow an amount: "in volume group vg0"."""
    match row.kind:
        case "filesystem":
            return f"in {row.place}"
        case "memory":
            return f"of {row.place}"
        case "volume group" | "thin pool":
            return f"in {row.kind} {row.place}"


def undo_words(plan: Plan, step: Step) -> tuple[str, ...]:
    """Return the programs and requests that undo a step, in short, without those that only look; () where nothing is
    undone: the step alters nothing, or stands behind the commit point, or no step of the plan is undone."""
    if plan.commit and step.number > plan.commit:
        return ()
    if not step.undo and alters(step) and undo_end(plan):
        return ("none",)
    words = dict.fromkeys(word for command in step.undo if (word := _word(command)) not in _LOOKS and word)
    if "rename back" in words:  # the links around a rename only serve it
        return tuple(word for word in words if word not in ("ln", "rm"))
    return tuple(words)


def _word(command: Command) -> str:
    match command:
        case Run(argv):
            words = argv[:3] if argv[0] == "kill" else argv[:2] if argv[0] in _WITH_VERB else argv[:1]
            return safe(" ".join(words))
        case Qmp(execute=execute):
            return "" if execute.startswith("query-") else safe(_SHORT.get(execute, execute))
        case Rename():
            return "rename back"
        case Release():
            return "let the guest go"
        case AwaitJob() | Capture() | Seal() | Compact() | Write():
            return ""


def source_file(plan: Plan) -> str:
    """Return the path of the spec: `source` without its line and column."""
    return plan.source.rsplit(":", 2)[0] if plan.source.count(":") >= 2 else plan.source
