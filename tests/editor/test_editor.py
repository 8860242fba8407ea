"""An editor's view of a spec: the real yaml-language-server, over its protocol, with our schema and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any, get_args

import pytest

from schema.spec import Method

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
SERVER = "yaml-language-server@1.19.2"  # 2.0 does not start on the Node.js 18 of Debian 12
MODELINE = "# yaml-language-server: $schema=../schema/snapshot.schema.json\n"
ONE = MODELINE + "version: 1\ndomain: web01\nsnapshot: one\n"
SETTINGS = {
    "yaml": {"schemaStore": {"enable": False}, "completion": True, "hover": True, "validate": True, "schemas": {}},
    "http": {"proxy": "http://127.0.0.1:9", "proxyStrictSSL": True},
}


@pytest.fixture(scope="session")
def program() -> Path:
    """The server from npm, kept in the cache beside the other things that are made once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "domsnap/npm" / SERVER
    found = folder / "node_modules/.bin/yaml-language-server"
    if not found.exists():
        shutil.rmtree(folder, ignore_errors=True)
        argv = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        subprocess.run([*argv, SERVER], check=True, timeout=300)
    return found


class Editor:
    """As much of an editor as the language server protocol wants: requests, answers, and what the server asks."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.process = subprocess.Popen([program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        self.inbox: Queue[dict[str, Any] | None] = Queue()
        self.diagnostics: dict[str, list[dict[str, Any]]] = {}
        self.asked = 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        root = folder.as_uri()
        self.request(
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": root,
                "workspaceFolders": [{"uri": root, "name": "checkout"}],
                "capabilities": {
                    "textDocument": {"hover": {"contentFormat": ["markdown"]}, "completion": {}},
                    "workspace": {"configuration": True, "workspaceFolders": True},
                },
            },
        )
        self.notify("initialized", {})
        self.notify("workspace/didChangeConfiguration", {"settings": SETTINGS})

    def _read(self) -> None:
        assert self.process.stdout
        while header := self.process.stdout.readline():
            length = 0
            while header.strip():
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
                header = self.process.stdout.readline()
            self.inbox.put(json.loads(self.process.stdout.read(length)))
        self.inbox.put(None)

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        data = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.process.stdin.flush()

    def _take(self) -> dict[str, Any]:
        """Return the next message; what the server asks for is answered on the way."""
        try:
            message = self.inbox.get(timeout=60)
        except Empty:
            raise AssertionError("the server says nothing") from None
        assert message is not None, "the server has ended"
        if message.get("method") == "workspace/configuration":
            wanted = [SETTINGS.get(each.get("section", ""), {}) for each in message["params"]["items"]]
            self._send({"id": message["id"], "result": wanted})
        elif "method" in message and "id" in message:
            self._send({"id": message["id"], "result": None})
        elif message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics[message["params"]["uri"]] = message["params"]["diagnostics"]
        return message

    def notify(self, method: str, params: dict[str, Any]) -> None:
        self._send({"method": method, "params": params})

    def request(self, method: str, params: Any) -> Any:
        self.asked += 1
        self._send({"id": self.asked, "method": method, "params": params})
        while True:
            message = self._take()
            if message.get("id") == self.asked and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def open(self, path: Path, text: str) -> str:
        path.write_text(text)
        uri = path.as_uri()
        document = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        return uri

    def problems(self, uri: str) -> list[dict[str, Any]]:
        """Wait for what the server says of a document."""
        while uri not in self.diagnostics:
            self._take()
        return self.diagnostics[uri]

    def at(self, uri: str, line: int, character: int) -> dict[str, Any]:
        return {"textDocument": {"uri": uri}, "position": {"line": line, "character": character}}

    def close(self) -> None:
        self.request("shutdown", None)
        self.notify("exit", {})
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.reader.join(timeout=30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout: the schema where the first line of a spec says it is."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "schema").mkdir()
    (checkout / "specs").mkdir()
    shutil.copy(ROOT / "schema/snapshot.schema.json", checkout / "schema")
    return checkout


@pytest.fixture(scope="module")
def editor(program: Path, folder: Path) -> Iterator[Editor]:
    there = Editor(program, folder)
    yield there
    there.close()


def labels(answer: Any) -> set[str]:
    items = answer["items"] if isinstance(answer, dict) else answer
    return {item["label"] for item in items}


def test_a_valid_spec_has_no_problem(editor: Editor, folder: Path) -> None:
    uri = editor.open(folder / "specs/valid.yaml", ONE + "disks:\n  xvda: internal\n")
    assert editor.problems(uri) == []


@pytest.mark.parametrize("text", ["disks:\n  xvda:\n    method: \n", "disks:\n  xvda: \n"])
def test_the_values_of_a_method_are_offered(editor: Editor, folder: Path, text: str) -> None:
    uri = editor.open(folder / f"specs/method{len(text)}.yaml", ONE + text)
    last = (ONE + text).split("\n")[-2]
    answer = editor.request("textDocument/completion", editor.at(uri, (ONE + text).count("\n") - 1, len(last)))
    assert labels(answer) == set(get_args(Method))


def test_the_keys_of_a_spec_are_offered(editor: Editor, folder: Path) -> None:
    uri = editor.open(folder / "specs/keys.yaml", ONE)
    answer = editor.request("textDocument/completion", editor.at(uri, ONE.count("\n"), 0))
    assert {"memory", "disks", "store", "assume", "description"} <= labels(answer)


def test_a_key_is_explained_where_the_mouse_is(editor: Editor, folder: Path) -> None:
    uri = editor.open(folder / "specs/hover.yaml", ONE + "store: /srv/snapshots\n")
    answer = editor.request("textDocument/hover", editor.at(uri, ONE.count("\n"), 2))
    said = json.loads((ROOT / "schema/snapshot.schema.json").read_text())["properties"]["store"]["description"]
    shown = answer["contents"]["value"]
    assert said.split(":")[0] in shown.replace("\\", "").replace("&nbsp;", " ")


@pytest.mark.parametrize(
    "text,said",
    [
        ("disks:\n  xvda: {method: interal}\n", "internal"),
        ("stroe: /srv\n", "stroe"),
        ("memory: {capture: none}\n", "paused"),
        ("store: snapshots\n", "^/"),
    ],
)
def test_a_mistake_is_marked_in_its_line(editor: Editor, folder: Path, text: str, said: str) -> None:
    uri = editor.open(folder / f"specs/wrong-{text[:5]}.yaml", ONE + text)
    problems = editor.problems(uri)
    line = (ONE + text).count("\n") - 1
    assert [problem["range"]["start"]["line"] for problem in problems] == [line]
    assert said in problems[0]["message"]


def test_every_example_begins_with_the_line_that_editors_read() -> None:
    specs = list((ROOT / "specs").glob("*.yaml"))
    assert specs
    assert [spec for spec in specs if not spec.read_text().startswith(MODELINE)] == []
