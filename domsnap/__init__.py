"""The door: command line, rendering for people, the public Python API.

    from domsnap import compile_plan, facts_from_json, read_json, read_specs
    from domsnap.preview import preview

    (spec,) = read_specs(b"{version: 1, domain: web01, snapshot: one}", "web01.yaml")
    facts = facts_from_json(read_json("facts", data, "facts.json"))
    print(preview(compile_plan("create", spec, facts)))

Each name is imported when it is first used. The forms that a plan can be shown in are in `domsnap.preview`,
`domsnap.mermaid` and `domsnap.page`; `executor.script` prints it as a shell script.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from executor.script import script as script
    from planner.compile import compile_plan as compile_plan
    from planner.compile import offline_facts as offline_facts
    from planner.facts import Facts as Facts
    from planner.facts import facts_from_json as facts_from_json
    from planner.plan import Plan as Plan
    from planner.plan import plan_from_json as plan_from_json
    from schema.diagnostic import Diagnostic as Diagnostic
    from schema.diagnostic import Refused as Refused
    from schema.read import read_json as read_json
    from schema.read import read_specs as read_specs
    from schema.spec import Spec as Spec

_HOME = {
    "Diagnostic": "schema.diagnostic", "Refused": "schema.diagnostic", "Spec": "schema.spec",
    "read_json": "schema.read", "read_specs": "schema.read",
    "Facts": "planner.facts", "facts_from_json": "planner.facts",
    "Plan": "planner.plan", "plan_from_json": "planner.plan",
    "compile_plan": "planner.compile", "offline_facts": "planner.compile", "script": "executor.script",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'domsnap' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
