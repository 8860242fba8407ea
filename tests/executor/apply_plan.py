"""Carries out the saved plan that it is given, as `domsnap apply` does, or resumes or aborts it."""

import os
import resource
import sys
from pathlib import Path

from executor import boot, recover
from executor.carry_out import carry_out
from executor.journal import FOLDER
from executor.lock import Locked
from planner.plan import Plan, plan_from_json
from schema.diagnostic import Refused
from schema.read import read_json

INDENT = {"undo": "  ", "trouble": "  ", "hand": "    "}


def tell(kind: str, text: str) -> None:
    for line in text.splitlines():
        print(INDENT.get(kind, "") + line, file=sys.stderr, flush=True)


def act(plan: Plan, verb: str) -> int:
    path = Path(plan.store, plan.domains[0].name, FOLDER, f"{plan.id}.jsonl")
    try:
        match verb:
            case "resume":
                return recover.resume(path, tell)
            case "boot":
                return boot.recover(plan.store, tell)
            case "abort":
                return recover.abort(path, tell)
            case _:
                return carry_out(plan, tell, guard=verb != "alone")
    except Locked as locked:
        print(f"locked: {locked}", file=sys.stderr)
        return 4
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1


if __name__ == "__main__":
    if limit := int(os.environ.get("LARGEST_FILE", "0")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    saved = plan_from_json(read_json("plan", Path(sys.argv[1]).read_bytes(), sys.argv[1]))
    sys.exit(act(saved, sys.argv[2] if len(sys.argv) > 2 else ""))
