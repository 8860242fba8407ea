"""Files to values: a spec file to its specs, a JSON file to a document that is valid against its schema."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

from schema.diagnostic import Diagnostic, Position, Refused
from schema.json_source import load_json
from schema.semantics import no_memory, seconds, semantics, size
from schema.shape import shape
from schema.source import NEEDED, Document, Plain, load
from schema.spec import DEFAULT_STORE, Assume, Disk, GiveUp, Memory, Spec
from schema.validate import MANY, NEWER, check, schema_of, settle

# Of a larger document jsonschema sees only those items of lists that do not fit: it takes milliseconds for each domain.
LARGE_BYTES = 2**20
_SAMPLE = 20


def read_specs(data: bytes, name: str) -> tuple[Spec, ...]:
    """Return the specs of a file, one for each document.

    Raises Refused with everything that is wrong with the file, in its order.
    """
    problems: list[Diagnostic] = []
    specs: list[Spec] = []
    seen: dict[tuple[str, str], Position] = {}
    for document in load(data, name):
        found = _problems(document, name)
        problems += found
        if found:
            continue
        spec = _spec(document)
        where = document.positions[("snapshot",)]
        if (spec.domain, spec.snapshot) in seen:
            detail = (
                f"{spec.domain}/{spec.snapshot} is declared on line {seen[spec.domain, spec.snapshot].line} already"
            )
            problems.append(
                document.say(
                    "a snapshot is declared twice", detail, "give each a name of its own", where, ("snapshot",)
                )
            )
        seen.setdefault((spec.domain, spec.snapshot), where)
        specs.append(spec)
        if len(problems) > MANY:
            break
    if problems:
        raise Refused(_first(sorted(problems, key=_order), name))
    return tuple(specs)


def _problems(document: Document, name: str) -> list[Diagnostic]:
    if isinstance(document.value, Plain) and not document.value:
        return [
            document.say(
                "nothing in it", "the document is empty", f"{NEEDED}; or remove the `---`", document.positions[()]
            )
        ]
    document.value = settle(document.value, schema_of("snapshot"))
    found = check("snapshot", document.value, name, document.positions, document.lines, document.keys)
    if any(each.summary == NEWER for each in found):
        return found
    declined = no_memory(document)
    if declined:
        found = [each for each in found if not each.path.startswith("memory")] + [declined]
    # A key that is missing or of the wrong kind has been spoken of; the rest may still be said of the same place.
    said = {(each.path, each.summary) for each in found}
    found += [each for each in semantics(document) if (each.path, each.summary) not in said]
    return [*document.problems, *found]


def _spec(document: Document) -> Spec:
    value = document.value
    assume = value.get("assume")
    return Spec(
        domain=str(value["domain"]),
        snapshot=str(value["snapshot"]),
        description=str(value.get("description", "")),
        memory=_memory(value.get("memory", {})),
        disks=tuple(_disk(vdev, said) for vdev, said in value.get("disks", {}).items()),
        store=str(value.get("store", DEFAULT_STORE)),
        assume=Assume(**{**assume, "memory": size(assume["memory"])}) if assume else None,
        digest=document.digest,
        positions=document.positions,
        lines=document.lines,
    )


def _memory(said: Any) -> Memory:
    return Memory(**{**said, **({"give_up": _give_up(said["give_up"])} if "give_up" in said else {})})


def _give_up(said: Any) -> GiveUp:
    limit = str(said.get("size", ""))
    return GiveUp(
        after=seconds(said["after"]) if "after" in said else None,
        size=size(limit) if limit and not limit.endswith("x") else None,
        times=float(limit[:-1]) if limit.endswith("x") else None,
    )


def _disk(vdev: str, said: Any) -> Disk:
    if isinstance(said, str):
        return Disk(vdev, method=said)  # type: ignore[arg-type]  # the schema has seen to it
    sizes = {key: size(said[key]) for key in ("size", "capacity") if key in said}
    return Disk(vdev, **{**said, **sizes})


def read_json(kind: str, data: bytes, name: str) -> dict[str, Any]:
    """Return the document of a JSON file: `kind` is facts, plan or record.

    Raises Refused with everything that is wrong with it.
    """
    document = load_json(data, name)
    wrong: dict[str, list[int]] = {}
    if len(data) > LARGE_BYTES:
        wrong = _wrong_items(document, schema_of(kind))
    sample = {key: [value[at] for at in wrong[key]] if key in wrong else value for key, value in document.items()}
    if problems := check(kind, sample, name):
        raise Refused(_first([_renumbered(each, wrong) for each in problems], name))
    return document


def _wrong_items(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, list[int]]:
    """Return for every list of a document the numbers of the first items that do not fit its schema."""
    found: dict[str, list[int]] = {}
    for key, value in document.items():
        rule = schema["properties"].get(key, {}).get("items")
        if rule is not None and isinstance(value, list):
            fits = shape(rule, schema)
            found[key] = list(islice((at for at, item in enumerate(value) if not fits(item)), _SAMPLE))
    return found


def _renumbered(diagnostic: Diagnostic, kept: dict[str, list[int]]) -> Diagnostic:
    """Return a diagnostic on the kept items of lists as one on the whole lists."""
    key, *rest = diagnostic.path.split(".")
    if key not in kept or not rest:
        return diagnostic
    return replace(diagnostic, path=".".join((key, str(kept[key][int(rest[0])]), *rest[1:])))


def _first(problems: list[Diagnostic], name: str) -> list[Diagnostic]:
    """Return as many as anybody reads, and that there are more."""
    if len(problems) <= MANY:
        return problems
    where = problems[MANY].position or Position(name, 0, 0)
    return [*problems[:MANY], Diagnostic("more is wrong", f"only the first {MANY} mistakes are shown", "", where)]


def _order(diagnostic: Diagnostic) -> tuple[int, int]:
    where = diagnostic.position
    return (where.line, where.column) if where else (0, 0)
