"""Carries out the saved plan that it is given, as `domsnap apply` does, and says what a script says."""

import sys
from pathlib import Path

from executor.carry_out import carry_out
from executor.lock import Locked
from planner.plan import plan_from_json
from schema.read import read_json

INDENT = {"undo": "  ", "trouble": "  ", "hand": "    "}


def tell(kind: str, text: str) -> None:
    for line in text.splitlines():
        print(INDENT.get(kind, "") + line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    plan = plan_from_json(read_json("plan", Path(sys.argv[1]).read_bytes(), sys.argv[1]))
    try:
        status = carry_out(plan, tell)
    except Locked as locked:
        print(f"locked: {locked}", file=sys.stderr)
        status = 4
    sys.exit(status)
