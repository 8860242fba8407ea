"""A QMP server with a small model of a QEMU: its block graph and jobs; it notes each request in the host's trace."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GREETING: dict[str, Any] = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": []}}


class Rejected(Exception):
    """The request is answered with an error."""


class Graph:
    """Disks with the node on top of each, nodes that were added, jobs and internal snapshots."""

    def __init__(self, tops: dict[str, str], tags: Path) -> None:
        self.tops = dict(tops)
        self.base = {node: node for node in tops.values()}
        self.nodes = dict.fromkeys(tops.values(), "")
        self.jobs: dict[str, dict[str, Any]] = {}
        self.commits: dict[str, tuple[str, str]] = {}
        self.streams: dict[str, str] = {}
        self.tags = tags

    def state(self) -> object:
        return sorted(self.tops.items()), sorted(self.nodes), sorted(self.jobs)

    def do(self, execute: str, data: Any) -> Any:  # noqa: C901  # one case for each command
        match execute:
            case "query-block":
                return [{"device": "", "inserted": {"node-name": node}} for node in self.tops.values()]
            case "query-named-block-nodes":
                return [{"node-name": node, "file": file} for node, file in self.nodes.items()]
            case "query-jobs":
                return list(self.jobs.values())
            case "blockdev-add":
                if data["node-name"] in self.nodes or not Path(data["file"]["filename"]).exists():
                    raise Rejected("cannot add it")
                self.nodes[data["node-name"]] = data["file"]["filename"]
            case "blockdev-del":
                if data["node-name"] not in self.nodes:
                    raise Rejected(f"Failed to find node with node-name='{data['node-name']}'")
                if data["node-name"] in self.tops.values():
                    raise Rejected("the node is in use")
                del self.nodes[data["node-name"]]
            case "transaction":
                self.transaction(data["actions"])
            case "blockdev-snapshot-delete-internal-sync":
                tag = self.tags / data["name"]
                if not tag.exists():
                    raise Rejected("Snapshot with id '(null)' and name 'x' does not exist on device 'x'")
                tag.unlink()
            case "block-commit":
                self.jobs[data["job-id"]] = {"id": data["job-id"], "status": "ready"}
                self.commits[data["job-id"]] = (data["device"], data["base-node"])
            case "job-complete":
                top, base = self.commits.pop(data["id"])
                self.tops = {disk: base if node == top else node for disk, node in self.tops.items()}
                self.jobs[data["id"]]["status"] = "concluded"
            case "block-stream":
                if data["job-id"] in self.jobs:
                    raise Rejected(f"Job ID '{data['job-id']}' already in use")
                if data["device"] not in self.nodes:
                    raise Rejected(f"Cannot find device='' nor node-name='{data['device']}'")
                self.jobs[data["job-id"]] = {"id": data["job-id"], "status": "pending"}
                self.streams[data["job-id"]] = self.nodes[data["device"]]
            case "job-finalize":
                if self.jobs.get(data["id"], {}).get("status") != "pending":
                    raise Rejected("Job 'x' in state 'y' cannot accept command verb 'finalize'")
                Path(self.streams.pop(data["id"])).write_text("streamed\n")
                self.jobs[data["id"]]["status"] = "concluded"
            case "human-monitor-command":
                return ""
            case "job-cancel" | "job-dismiss":
                if data["id"] not in self.jobs:
                    raise Rejected("Job not found")
                self.jobs[data["id"]]["status"] = "concluded"
                if execute == "job-dismiss":
                    del self.jobs[data["id"]]
            case _:
                raise Rejected(f"the model does not know {execute}")
        return {}

    def transaction(self, actions: list[Any]) -> None:
        if any(action["type"] == "abort" for action in actions):
            raise Rejected("Transaction aborted using Abort action")
        for action in actions:
            data = action["data"]
            match action["type"]:
                case "blockdev-snapshot":
                    assert data["overlay"] in self.nodes
                    self.tops = {d: data["overlay"] if n == data["node"] else n for d, n in self.tops.items()}
                case "blockdev-backup":
                    assert data["target"] in self.nodes
                    self.jobs[data["job-id"]] = {"id": data["job-id"], "status": "concluded"}
                case "blockdev-snapshot-internal-sync":
                    (self.tags / data["name"]).touch()
                case other:
                    raise Rejected(f"the model does not know {other}")


class Server:
    """Serves one connection after another until it is closed."""

    def __init__(self, path: Path, host: Path, graph: Graph) -> None:
        self.host, self.graph = host, graph
        self.fault_at, self.fault = 0, ""
        self.fault_call = ("", 0)
        self.silent = False
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        # shutdown wakes the accept that waits; close alone would not
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                try:
                    self._talk(connection)
                except OSError:
                    continue

    def _requests(self, stream: socket.socket) -> Iterator[Any]:
        """Yield requests as they come, with or without an end of line: a monitor takes both."""
        text = ""
        while data := stream.recv(65536):
            text += data.decode()
            while text := text.lstrip():
                try:
                    request, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break
                text = text[end:]
                yield request

    def _talk(self, stream: socket.socket) -> None:
        self._send(stream, GREETING)
        for request in self._requests(stream):
            if request["execute"] == "qmp_capabilities":
                self._send(stream, {"return": {}, "id": request.get("id")})
                continue
            answer = self._answer(request["execute"], request.get("arguments", {}))
            if "id" in request:
                answer["id"] = request["id"]
            # Events may come at any time.
            self._send(stream, {"event": "JOB_STATUS_CHANGE", "data": {}})
            self._send(stream, answer)

    def _answer(self, execute: str, arguments: Any) -> dict[str, Any]:
        trace = self.host / "trace"
        with trace.open("a") as file:
            file.write(f"qmp {execute}\n")
        calls = trace.read_text().splitlines()
        here = len(calls) == self.fault_at or (f"qmp {execute}", calls.count(f"qmp {execute}")) == self.fault_call
        fault = self.fault if here else ""
        failure = {"error": {"class": "GenericError", "desc": "made to fail"}}
        if fault == "before":
            return failure
        if fault == "killed before":
            os.kill(int((self.host / "pid").read_text()), signal.SIGKILL)
            return failure
        try:
            done: dict[str, Any] = {"return": self.graph.do(execute, arguments)}
        except Rejected as error:
            done = {"error": {"class": "GenericError", "desc": str(error)}}
        if fault.startswith("killed"):
            os.kill(int((self.host / "pid").read_text()), signal.SIGKILL)
        if fault == "signal":
            os.kill(int((self.host / "pid").read_text()), signal.SIGTERM)
        return failure if fault == "after" else done

    @staticmethod
    def _send(stream: socket.socket, message: dict[str, Any]) -> None:
        stream.sendall(json.dumps(message).encode() + b"\r\n")
