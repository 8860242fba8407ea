"""The four JSON Schemas: explained throughout, closed, and the same as the values that the program works with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from planner import commands, facts, plan
from planner.facts import facts_from_json, record_from_json
from schema import spec
from schema.diagnostic import Refused
from schema.patterns import matches
from schema.read import LARGE_BYTES, read_json
from schema.shape import shape
from schema.validate import MANY, NAMES, check, schema_of, schema_text
from tests.planner.hosts import document as facts_document
from tests.planner.hosts import facts as small_host
from tests.planner.hosts import off, taken
from tests.planner.hosts import spec as small_spec
from tests.planner.scenarios import plans, situations


def subschemas(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, schema) for a schema and every one inside it."""
    yield place, schema
    for key in ("properties", "$defs"):
        for name, inner in schema.get(key, {}).items():
            yield from subschemas(inner, f"{place}/{key}/{name}")
    for key in ("anyOf", "allOf", "oneOf"):
        for number, inner in enumerate(schema.get(key, ())):
            yield from subschemas(inner, f"{place}/{key}/{number}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from subschemas(schema[key], f"{place}/{key}")


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_valid_2020_12(name: str) -> None:
    assert schema_of(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_property_has_a_title_a_description_and_examples_that_are_valid(name: str) -> None:
    root = schema_of(name)
    found = 0
    for place, schema in subschemas(root):
        if place.split("/")[-2:-1] != ["properties"]:
            continue
        found += 1
        assert schema.get("title"), place
        assert len(schema.get("description", "")) > 3, place
        assert schema["description"][-1] in ".?)", f"{place}: {schema['description']!r} is cut off"
        assert schema.get("examples"), place
        validator = Draft202012Validator({**schema, "$defs": root.get("$defs", {})})
        for example in schema["examples"]:
            assert validator.is_valid(example), f"{place}: {example!r}"
    assert found >= 10


@pytest.mark.parametrize("name", NAMES)
def test_no_object_takes_unknown_keys(name: str) -> None:
    for place, schema in subschemas(schema_of(name)):
        if "properties" in schema and "allOf" not in place:
            assert schema["additionalProperties"] is False, place


@pytest.mark.parametrize("name", NAMES)
def test_a_dollar_in_a_pattern_is_always_an_end(name: str) -> None:
    """So it can be read as Python's end of the text; none is escaped, and none stands in a class."""
    for place, schema in subschemas(schema_of(name)):
        assert not re.search(r"\\\$|\[[^]]*\$[^]]*\]", schema.get("pattern", "")), place


def test_a_pattern_does_not_overlook_a_line_break_at_the_end() -> None:
    assert matches("^a$", "a")
    assert not matches("^a$", "a\n")
    assert matches("^(?!a$)", "a\n")


FACTS = {
    "host": facts.Host, "process": facts.Process, "qemu": facts.Qemu, "node": facts.Node, "disk": facts.Disk,
    "domain": facts.Domain, "image": facts.Image, "volume": facts.Volume, "volume-group": facts.VolumeGroup,
    "filesystem": facts.Filesystem, "held": facts.Held,
}  # fmt: skip
PLAN = {
    "subject": plan.Subject, "step": plan.Step, "disk-row": plan.DiskRow, "space": plan.Space, "stop": plan.Stop,
    "notice": plan.Notice,
}  # fmt: skip
COMMANDS = dict(commands._KINDS)


def required(kind: Any) -> set[str]:
    return {each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING}


def names(kind: Any) -> set[str]:
    return {each.name for each in fields(kind)}


@pytest.mark.parametrize("definition", FACTS)
def test_definitions_of_facts_are_the_fields_of_their_values(definition: str) -> None:
    said = schema_of("facts")["$defs"][definition]
    assert said["properties"].keys() == names(FACTS[definition])
    assert set(said["required"]) == required(FACTS[definition])


def test_facts_are_the_fields_of_their_value() -> None:
    said = schema_of("facts")
    assert said["properties"].keys() == names(facts.Facts) | {"version"}
    assert set(said["required"]) == required(facts.Facts) | {"version"}
    assert set(said["$defs"]) == {*FACTS, "record"}


def test_a_record_is_the_fields_of_its_value_in_the_store_as_in_facts() -> None:
    for record in (schema_of("record"), schema_of("facts")["$defs"]["record"]):
        assert record["properties"].keys() == names(facts.Record) | {"version"}
        assert set(record["required"]) >= required(facts.Record) | {"version"}
    assert schema_of("record")["$defs"]["held"] == schema_of("facts")["$defs"]["held"]


@pytest.mark.parametrize("definition", PLAN)
def test_definitions_of_a_plan_are_the_fields_of_their_values_all_of_them_said(definition: str) -> None:
    said = schema_of("plan")["$defs"][definition]
    assert said["properties"].keys() == names(PLAN[definition]) == set(said["required"])


def test_a_plan_is_the_fields_of_its_value_all_of_them_said() -> None:
    said = schema_of("plan")
    assert said["properties"].keys() == names(plan.Plan) | {"version", "id"} == set(said["required"])
    assert set(said["$defs"]) == {*PLAN, *COMMANDS, "command"}


@pytest.mark.parametrize("definition", COMMANDS)
def test_definitions_of_commands_are_the_fields_of_their_values(definition: str) -> None:
    said = schema_of("plan")["$defs"][definition]
    assert said["properties"].keys() == names(COMMANDS[definition])
    assert set(said["required"]) == required(COMMANDS[definition])


def test_every_command_of_the_union_is_in_the_schema() -> None:
    assert set(COMMANDS.values()) == set(get_args(commands.Command))
    assert schema_of("plan")["$defs"]["command"]["properties"].keys() == COMMANDS.keys()


def test_the_keys_of_a_spec_are_the_fields_of_its_value() -> None:
    said = schema_of("snapshot")
    assert said["properties"].keys() == names(spec.Spec) - {"digest", "positions", "lines"} | {"version"}
    assert set(said["required"]) == required(spec.Spec) | {"version"}
    memory = said["properties"]["memory"]["properties"]
    assert memory.keys() == names(spec.Memory)
    assert memory["give_up"]["properties"].keys() == names(spec.GiveUp) - {"times"}
    assume = said["properties"]["assume"]
    assert assume["properties"].keys() == names(spec.Assume) == set(assume["required"])
    disk = said["$defs"]["disk"]["anyOf"][1]
    assert disk["properties"].keys() == names(spec.Disk) - {"vdev"}


@pytest.mark.parametrize(
    "words,path",
    [
        (spec.Capture, "properties/memory/properties/capture"),
        (spec.Method, "$defs/disk/anyOf/0"),
        (spec.Method, "$defs/disk/anyOf/1/properties/method"),
        (spec.Backend, "$defs/disk/anyOf/1/properties/backend"),
        (spec.DomainType, "properties/assume/properties/type"),
    ],
)
def test_the_words_of_a_spec_are_those_of_its_types(words: Any, path: str) -> None:
    schema: Any = schema_of("snapshot")
    for part in path.split("/"):
        schema = schema[int(part)] if isinstance(schema, list) else schema[part]
    assert tuple(schema["enum"]) == get_args(words)


def test_the_default_store_is_the_one_in_the_schema() -> None:
    assert schema_of("snapshot")["properties"]["store"]["default"] == spec.DEFAULT_STORE


def test_an_image_is_compacted_unless_the_spec_says_otherwise() -> None:
    assert schema_of("snapshot")["properties"]["memory"]["properties"]["compact"]["default"] is spec.Memory().compact


def test_facts_of_every_kind_are_valid_and_come_back_as_they_were() -> None:
    for name, declared, there in situations():
        for each in (there, taken(declared, there), off(there)):
            data = json.dumps(facts_document(each)).encode()
            assert facts_from_json(read_json("facts", data, name)) == each, name


def test_plans_of_every_verb_and_method_are_valid() -> None:
    seen = set()
    for name, each in plans():
        assert check("plan", each.to_json(), name) == [], name
        seen.add(each.verb)
    assert seen == {"create", "revert", "delete"}


def test_records_are_valid_and_come_back_as_they_were() -> None:
    there = taken(small_spec(), small_host())
    for said in facts_document(there)["records"]:
        document = read_json("record", json.dumps(said).encode(), "record.json")
        assert record_from_json(document) in there.records


@pytest.mark.parametrize("name", NAMES)
def test_the_text_of_a_schema_is_its_file_and_ends_with_a_line_break(name: str) -> None:
    assert json.loads(schema_text(name)) == schema_of(name)
    assert schema_text(name).endswith("}\n")


# Reading JSON.


def refused(kind: str, data: bytes) -> str:
    with pytest.raises(Refused) as caught:
        read_json(kind, data, "f.json")
    for each in caught.value.diagnostics:
        assert each.position and each.position.file == "f.json"
    return "\n".join(f"{each.path}|{each.summary}|{each.detail}|{each.hint}" for each in caught.value.diagnostics)


@pytest.mark.parametrize("kind", ["facts", "plan", "record"])
def test_a_newer_version_is_refused_by_name(kind: str) -> None:
    """And for nothing else: what is unknown here may be right there."""
    assert refused(kind, b'{"version": 2, "colour": "red"}') == (
        "version|the document is newer than this domsnap|this is version 2; this domsnap reads up to 1|"
        "install a newer domsnap"
    )


@pytest.mark.parametrize(
    "data,said",
    [
        (b'{"version": 1, "version": 1}', "a key stands twice|'version' stands twice"),
        (b'{"version": NaN}', "not valid JSON|NaN is no number"),
        (b'{"version": -Infinity}', "not valid JSON|-Infinity is no number"),
        (b'{"version": 1e999}', "a number is too large|1e999"),
        (b'{"version": 9223372036854775808}', "a number is too large|9223372036854775808"),
        (b'{"version": ' + b"9" * 5000 + b"}", "a number is too large|99999999999999999999... (5000 characters)"),
        (b'{"version": 1.0}', "wrong kind of value|expected a whole number, found 1.0"),
        (b'{"version": true}', "wrong kind of value|expected a whole number, found true"),
        (b"[" * 100_000, "nested too deeply|"),
        (b'{"a":' * 100_000, "nested too deeply|"),
        (b'{"host": "\xff"}', "not UTF-8|byte 0xff at 10"),
        (b'\xef\xbb\xbf{"version": 1}', "not valid JSON|"),
        (b'{"observed": "\\udcff"}', "not valid JSON|\\udcff is half a character"),
        (b'{"\\uD83D": 1}', "not valid JSON|\\ud83d is half a character"),
        (b"[]", "wrong kind of value|expected a mapping, found a list"),
        (b'"facts"', "wrong kind of value|expected a mapping, found 'facts'"),
        (b"null", "wrong kind of value|expected a mapping, found null"),
        (b"", "not valid JSON|expecting value"),
        (b'{"version": 1,}', "not valid JSON|"),
        (b'{"version": 1} {}', "not valid JSON|extra data"),
        (b'{"version": 1', "not valid JSON|"),
        (b'{"version": "a\nb"}', "not valid JSON|invalid control character"),
        (b"\x00", "not valid JSON|"),
    ],
)
def test_json_that_is_no_document_is_refused(data: bytes, said: str) -> None:
    assert said in refused("facts", data)


def test_both_halves_of_a_character_are_one_character() -> None:
    document = facts_document(small_host())
    document["host"]["name"] = "dom\U0001f600"
    data = json.dumps(document).encode()
    assert b"\\ud83d\\ude00" in data
    assert read_json("facts", data, "f.json")["host"]["name"] == "dom\U0001f600"


def test_an_error_in_json_has_its_line_and_column() -> None:
    with pytest.raises(Refused) as caught:
        read_json("facts", b'{\n  "version": 1\n  "host": 2\n}', "f.json")
    assert str(caught.value.diagnostics[0].position) == "f.json:3:3"


def large() -> dict[str, Any]:
    """Return a document so large that jsonschema does not see every item of its lists."""
    document = facts_document(small_host())
    [domain] = document["domains"]
    document["domains"] = [{**json.loads(json.dumps(domain)), "name": f"d{number}"} for number in range(1000)]
    assert len(json.dumps(document)) > LARGE_BYTES
    return document


def test_a_mistake_far_down_a_large_list_is_found_and_named() -> None:
    document = large()
    assert len(read_json("facts", json.dumps(document).encode(), "f.json")["domains"]) == 1000
    document["domains"][777]["disks"][2]["capacity"] = "4"
    document["domains"][901]["qemu"] = 5
    document["images"][1]["colour"] = "red"
    said = refused("facts", json.dumps(document).encode())
    assert "domains.777.disks.2.capacity|wrong kind of value|expected a whole number, found '4'" in said
    assert "domains.901.qemu" in said
    assert "images.1.colour|unknown key" in said


@pytest.mark.parametrize("wrong", [None, 5, [], {}, "text", {"name": "only"}])
def test_whatever_stands_in_a_large_list_is_a_clean_refusal(wrong: Any) -> None:
    document = large()
    document["domains"][500] = wrong
    assert "domains.500" in refused("facts", json.dumps(document).encode())
    document["domains"] = wrong
    document["padding"] = "x" * LARGE_BYTES
    assert "padding|unknown key" in refused("facts", json.dumps(document).encode())


def test_of_a_thousand_mistakes_only_the_first_are_told() -> None:
    document = large()
    for domain in document["domains"]:
        domain.update({f"x{number}": 1 for number in range(20)})
    said = refused("facts", json.dumps(document).encode()).splitlines()
    assert len(said) == MANY + 1
    assert said[0].startswith("domains.0.x0|")
    assert "more is wrong" in said[-1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**40) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "running", "pvh", "4.17.7", "a\n", "xvda", "linear"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "path", "x"]), inner),
    max_leaves=5,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    inner = put(value[path[0]], path[1:], new)
    if isinstance(value, dict):
        return {**value, path[0]: inner}
    return [inner if number == path[0] else each for number, each in enumerate(value)]


VALID = {
    "facts": json.loads(json.dumps(facts_document(taken(small_spec(), small_host())))),
    "plan": json.loads(next(plans())[1].text()),
}
PLACES = {kind: list(places(document)) for kind, document in VALID.items()}


@pytest.mark.parametrize("kind", VALID)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_the_quick_test_of_shapes_says_what_jsonschema_says(kind: str, data: st.DataObject) -> None:
    fits = shape(schema_of(kind), schema_of(kind))
    assert fits(VALID[kind])
    bent = put(VALID[kind], data.draw(st.sampled_from(PLACES[kind])), data.draw(JSON))
    assert fits(bent) == (check(kind, bent, "f") == [])
