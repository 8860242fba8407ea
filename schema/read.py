"""Files to values: a spec file to its specs, a JSON file to a document that is valid against its schema."""

from __future__ import annotations

import json
from typing import Any

from schema.diagnostic import Diagnostic, Position, Refused
from schema.semantics import no_memory, semantics, size
from schema.source import NEEDED, Document, Plain, load
from schema.spec import DEFAULT_STORE, Assume, Disk, Memory, Spec
from schema.validate import check, schema_of, settle, shown

MAX_JSON_BYTES = 2**28
# Above this many bytes the items of a document's lists are checked by their first ones alone: jsonschema takes
# milliseconds for each domain, and facts are written by a program.
SAMPLED_BYTES = 2**22
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
    if problems:
        raise Refused(sorted(problems, key=_order))
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
    declined = no_memory(document)
    if declined:
        found = [each for each in found if not each.path.startswith("memory")] + [declined]
    # A key that is missing or of the wrong kind has been spoken of; the rest may still be said of the same place.
    said = {(each.path, each.summary) for each in found}
    found += [each for each in semantics(document) if (each.path, each.summary) not in said]
    return [*document.problems, *found]


def _spec(document: Document) -> Spec:
    value = document.value
    memory = value.get("memory", {})
    assume = value.get("assume")
    return Spec(
        domain=str(value["domain"]),
        snapshot=str(value["snapshot"]),
        description=str(value.get("description", "")),
        memory=Memory(memory.get("capture", "paused"), memory.get("file")),
        disks=tuple(_disk(vdev, said) for vdev, said in value.get("disks", {}).items()),
        store=str(value.get("store", DEFAULT_STORE)),
        assume=Assume(**{**assume, "memory": size(assume["memory"])}) if assume else None,
        digest=document.digest,
        positions=document.positions,
        lines=document.lines,
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
    document = _load_json(data, name)
    sample = document if len(data) <= SAMPLED_BYTES else _sampled(document)
    if problems := check(kind, sample, name):
        raise Refused(problems)
    return document


def _load_json(data: bytes, name: str) -> dict[str, Any]:
    def refuse(summary: str, detail: str, line: int = 0, column: int = 0, text: str = "") -> Refused:
        return Refused([Diagnostic(summary, detail, "", Position(name, line, column), "", text)])

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise refuse("a key stands twice", f"{shown(twice)} stands twice in one object")
        return found

    def constant(word: str) -> Any:
        raise refuse("not valid JSON", f"{word} is no number")

    if len(data) > MAX_JSON_BYTES:
        raise refuse("the file is too large", f"it has {len(data)} bytes; at most {MAX_JSON_BYTES} are read")
    try:
        document = json.loads(data.decode(), object_pairs_hook=once, parse_constant=constant)
    except UnicodeDecodeError as error:
        raise refuse("not UTF-8", f"byte 0x{data[error.start]:02x} at {error.start} cannot stand here") from None
    except json.JSONDecodeError as error:
        text = error.doc.split("\n")[error.lineno - 1]
        raise refuse("not valid JSON", error.msg.lower(), error.lineno, error.colno, text) from None
    except RecursionError:
        raise refuse("nested too deeply", "it is nested more deeply than Python can read") from None
    except ValueError as error:  # a number of thousands of digits
        raise refuse("not valid JSON", str(error).split(";")[0].lower()) from None
    if not isinstance(document, dict):
        raise refuse("wrong kind of value", f"expected a mapping; {shown(document)} is not")
    return document


def _sampled(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value[:_SAMPLE] if isinstance(value, list) else value for key, value in document.items()}


def _order(diagnostic: Diagnostic) -> tuple[int, int]:
    where = diagnostic.position
    return (where.line, where.column) if where else (0, 0)
