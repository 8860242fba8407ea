"""Talks to a language server over its standard input and output, as an editor does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from threading import Thread
from types import TracebackType
from typing import Any, Self

Message = dict[str, Any]


class Editor:
    """An editor with one folder open; it says yes and nothing to everything that the server asks."""

    def __init__(self, argv: Sequence[str], folder: Path, settings: Message) -> None:
        self.server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
        self.settings = settings
        self.sent = 0
        self.came: Queue[Message | None] = Queue()
        self.notices: list[Message] = []
        self.asked: list[Message] = []
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()
        root = folder.as_uri()
        self.ask(
            "initialize",
            processId=None,
            rootUri=root,
            workspaceFolders=[{"uri": root, "name": "specs"}],
            capabilities={
                "workspace": {"configuration": True, "workspaceFolders": True},
                "textDocument": {
                    "completion": {"completionItem": {"snippetSupport": True, "documentationFormat": ["markdown"]}},
                    "hover": {"contentFormat": ["markdown"]},
                    "publishDiagnostics": {},
                },
            },
        )
        self.tell("initialized")
        self.tell("workspace/didChangeConfiguration", settings=settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.kill()
        self.server.wait()
        self.reader.join()
        assert self.server.stdin and self.server.stdout
        self.server.stdin.close()
        self.server.stdout.close()

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a request and return its result."""
        self.sent += 1
        number = self.sent
        self._send({"id": number, "method": method, "params": parameters})
        answer = self._wait(lambda message: message.get("id") == number and "method" not in message)
        assert "error" not in answer, answer
        return answer["result"]

    def tell(self, method: str, **parameters: Any) -> None:
        self._send({"method": method, "params": parameters})

    def open(self, file: Path) -> list[Message]:
        """Open a file, as it is on disk, and return the diagnostics that the server has for it."""
        document = {"uri": file.as_uri(), "languageId": "yaml", "version": 1, "text": file.read_text(encoding="utf-8")}
        self.tell("textDocument/didOpen", textDocument=document)
        said = self._wait(
            lambda message: (
                message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == file.as_uri()
            )
        )
        diagnostics: list[Message] = said["params"]["diagnostics"]
        return diagnostics

    def complete(self, file: Path, line: int, column: int) -> list[Message]:
        """Return the completions at a place; line and column count from 1."""
        answer = self.ask("textDocument/completion", **_place(file, line, column))
        items: list[Message] = answer["items"]
        return items

    def hover(self, file: Path, line: int, column: int) -> str:
        """Return the text shown at a place; line and column count from 1."""
        answer = self.ask("textDocument/hover", **_place(file, line, column))
        return str(answer["contents"]["value"]) if answer else ""

    def _wait(self, wanted: Any) -> Message:
        while True:
            message = self.came.get(timeout=60)
            assert message is not None, "the server has ended"
            if wanted(message):
                return message
            if "method" not in message:
                continue
            self.notices.append(message)
            if "id" in message:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        self.asked.append(message)
        result: Any = None
        if message["method"] == "workspace/configuration":
            result = [self._setting(item.get("section", "")) for item in message["params"]["items"]]
        self._send({"id": message["id"], "result": result})

    def _setting(self, section: str) -> Any:
        value: Any = self.settings
        for part in filter(None, section.split(".")):
            value = value.get(part, {})
        return value

    def _send(self, message: Message) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.server.stdin
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.server.stdin.flush()

    def _read(self) -> None:
        out = self.server.stdout
        assert out
        while header := out.readline():
            length = 0
            while header.strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                header = out.readline()
            self.came.put(json.loads(out.read(length)))
        self.came.put(None)


def _place(file: Path, line: int, column: int) -> Message:
    return {
        "textDocument": {"uri": file.as_uri()},
        "position": {"line": line - 1, "character": column - 1},
    }
