"""YAML text to values with the place of every one: no aliases, no tags, no surprises, and nothing that takes long.

Plain scalars keep the text that was written (`Plain`): only where the schema wants a number does one become a number,
so `no`, `0123`, `2024-01-01` and `1:30` are the text that they look like.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from schema.diagnostic import Diagnostic, Position, Refused, cut, shown

MAX_BYTES = 2**20
MAX_DEPTH = 32
_UTF16 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# What YAML counts as a line break besides LF and CR would put every later line number out.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

NEEDED = "a snapshot needs three lines: `version: 1`, `domain: NAME` and `snapshot: NAME`"

Path = tuple[str | int, ...]


class Plain(str):
    """A scalar written without quotes: text, unless a number is wanted."""

    __slots__ = ()


@dataclass(slots=True)
class Document:
    """One YAML document: its value, the position of each value and each key by path, its lines, its SHA-256."""

    value: Any
    positions: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    digest: str = ""
    problems: list[Diagnostic] = field(default_factory=list)

    def say(self, summary: str, detail: str, hint: str, where: Position | None, path: Path = ()) -> Diagnostic:
        """Return a diagnostic with its source line."""
        text = self.lines[where.line - 1] if where and 0 < where.line <= len(self.lines) else ""
        return Diagnostic(summary, detail, hint, where, ".".join(map(str, path)), text)


def load(data: bytes, name: str) -> list[Document]:
    """Return the documents of a file; `problems` of each holds what may be said beside what the schema says.

    Raises Refused for a file that cannot be read at all.
    """
    text = _decode(data, name)
    lines = tuple(text.split("\n"))
    try:
        documents = _documents(text, lines, name)
    except yaml.YAMLError as error:
        raise Refused([_translate(error, name, lines)]) from None
    if not documents:
        where = Position(name, 1, 1)
        raise Refused([Diagnostic("nothing in it", "the file holds no document", NEEDED, where)])
    starts = [document.positions[()].line for document in documents]
    for document, start, end in zip(documents, starts, [*starts[1:], len(lines) + 1], strict=True):
        part = lines if len(documents) == 1 else lines[start - 1 : end - 1]
        document.digest = hashlib.sha256("\n".join(part).encode()).hexdigest()
    return documents


def _documents(text: str, lines: tuple[str, ...], name: str) -> list[Document]:
    documents: list[Document] = []
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                builder = _Builder(Document(None, lines=lines), name, _line(event))
            elif isinstance(event, yaml.DocumentEndEvent):
                documents.append(builder.document)
            elif not isinstance(event, (yaml.StreamStartEvent, yaml.StreamEndEvent)):
                builder.take(event)
    except yaml.YAMLError as error:
        # The libyaml of PyYAML 6.0.4 stops at the 1001st open bracket, before it has said a word of the first ones.
        # Where the text ends there it does, and what is wrong earlier is found.
        mark: Any = getattr(error, "problem_mark", None)
        if mark and "maximum nesting depth" in str(error) and mark.index < len(text):
            return _documents(text[: mark.index], lines, name)
        raise
    return documents


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _decode(data: bytes, name: str) -> str:
    def refuse(summary: str, detail: str, hint: str, at: int = 0, text: str = "") -> Refused:
        before = data[:at].decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
        where = Position(name, before.count("\n") + 1, len(before) - before.rfind("\n"))
        return Refused([Diagnostic(summary, detail, hint, where, "", text)])

    if len(data) > MAX_BYTES:
        raise refuse("the file is too large", f"it has {len(data)} bytes; a spec has at most {MAX_BYTES}", "")
    if data.startswith(_UTF16) or b"\0" in data[:2]:
        raise refuse("not UTF-8", "it begins like UTF-16 or UTF-32", "save it as UTF-8")
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        detail = f"byte 0x{data[error.start]:02x} cannot stand here"
        raise refuse("not UTF-8", detail, "save it as UTF-8", error.start) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := _NO_TEXT.search(text):
        at = len(text[: found.start()].encode())
        code = f"U+{ord(found.group()):04X}"
        data = text.encode()
        line = text[text.rfind("\n", 0, found.start()) + 1 :].split("\n", 1)[0]
        raise refuse("a character that is no text", f"{code} cannot stand in a spec", "remove it", at, line)
    return text


class _Builder:
    """Builds one document from events, with a stack of its own: nothing recurses."""

    def __init__(self, document: Document, name: str, line: int) -> None:
        self.document, self.name, self.line = document, name, line
        self.stack: list[tuple[Any, Path]] = []
        self.key: tuple[str, Position] | None = None

    def take(self, event: Any) -> None:
        where = Position(self.name, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            self._refuse("anchors and aliases are not read", "write the value out where it is wanted", where)
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self.stack.pop()
            return
        tag = getattr(event, "tag", None)
        if tag and tag != "!":
            written = tag.replace("tag:yaml.org,2002:", "!!", 1)
            self._refuse("tags are not read", f"{cut(written)} has no meaning in a spec: leave it out", where)
        if len(self.stack) >= MAX_DEPTH:
            self._refuse("nested too deeply", f"at most {MAX_DEPTH} levels are read", where)
        container = self.stack[-1][0] if self.stack else None
        if isinstance(event, yaml.ScalarEvent) and (found := _NO_TEXT.search(event.value)):
            detail = f"the escape stands for U+{ord(found.group()):04X}, which cannot stand in a spec"
            self.document.problems.append(self.document.say("a character that is no text", detail, "remove it", where))
        if isinstance(container, dict) and self.key is None:
            self._take_key(event, where)
            return
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = event.value if event.style else Plain(event.value)
        else:
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = self._put(value, where)
        if not isinstance(event, yaml.ScalarEvent):
            if not event.flow_style and path in self.document.keys:
                self.document.positions[path] = self.document.keys[path]
            self.stack.append((value, path))

    def _take_key(self, event: Any, where: Position) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse("a key must be text", "a list or a mapping cannot be a key", where)
        if not event.value:
            self._refuse("a key is empty", "nothing stands before the colon", where)
        if event.value == "<<" and not event.style:
            self._refuse("merge keys are not read", "write the keys out where they are wanted", where)
        self.key = (str(event.value), where)

    def _put(self, value: Any, where: Position) -> Path:
        document = self.document
        if not self.stack:
            document.value = value
            document.positions[()] = Position(self.name, self.line, 1) if value == "" else where
            return ()
        container, path = self.stack[-1]
        if isinstance(container, list):
            container.append(value)
            path = (*path, len(container) - 1)
        else:
            assert self.key is not None  # take() has seen to it
            key, at = self.key
            self.key = None
            path = (*path, key)
            if key in container:
                detail = f"{shown(key)} stands on line {document.keys[path].line} already"
                document.problems.append(document.say("a key stands twice", detail, "keep one of the two", at, path))
            else:
                document.keys[path] = at
                document.positions[path] = where
            container.setdefault(key, value)
        document.positions.setdefault(path, where)
        return path

    def _refuse(self, summary: str, detail: str, where: Position) -> None:
        raise Refused([self.document.say(summary, detail, "", where)])


# What libyaml says, and what we say.
_WORDS = (
    ("mapping values are not allowed", "a colon and a blank stand in the middle of a value: put the value in quotes"),
    ("did not find expected key", "the indentation does not fit the lines above, or a bracket or quote is open"),
    ("did not find expected ',' or '}'", "a `{` is not closed, or a comma is missing"),
    ("did not find expected ',' or ']'", "a `[` is not closed, or a comma is missing"),
    ("found unexpected end of stream", "a quote is not closed"),
    ("found character that cannot start any token", "this character cannot begin a value: put the value in quotes"),
    ("could not find expected ':'", "this line is neither `key: value` nor part of the lines above"),
    ("did not find expected <document start>", "the lines above end the document: is the indentation right?"),
    ("found undefined tag handle", "tags are not read"),
    ("did not find expected '-' indicator", "this line does not fit the list above"),
    ("block sequence entries are not allowed", "a list cannot begin here"),
    ("did not find expected hexdecimal number", "in double quotes a backslash begins an escape: use single quotes"),
    ("did not find expected node content", "a value is missing before this, or a bracket is not closed"),
    ("found incompatible YAML document", "only YAML 1.1 and 1.2 are read: remove the %YAML line"),
    ("found unknown escape character", "in double quotes a backslash begins an escape: use single quotes"),
)


def _translate(error: yaml.YAMLError, name: str, lines: tuple[str, ...]) -> Diagnostic:
    mark: Any = getattr(error, "problem_mark", None)
    begun: Any = getattr(error, "context_mark", None)
    if begun and (mark is None or not any(line.strip() for line in lines[mark.line :])):
        mark = begun  # what is open at the end of the file is to be closed where it begins
    line, column = (min(mark.line + 1, len(lines)), mark.column + 1) if mark else (1, 1)
    problem = str(getattr(error, "problem", "") or "it cannot be read")
    text = lines[line - 1]
    if "\t" in text[: len(text) - len(text.lstrip())]:
        detail, hint = "a tab stands in the indentation", "indent with blanks"
        column = text.index("\t") + 1
    else:
        detail = next((ours for theirs, ours in _WORDS if theirs in problem), problem)
        hint = ""
    return Diagnostic("not valid YAML", detail, hint, Position(name, line, column), "", text)
