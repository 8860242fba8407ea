"""A QEMU's block graph, with the habit that makes it dangerous: it opens files again by the names it remembers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.model.disks import BLOCKS, Blocks, Files, Inode, over


class Trouble(Exception):
    """QMP answered "error"."""


@dataclass
class Node:
    """A block node; it holds the inode it opened, and knows the name it opened it by."""

    name: str
    inode: Inode
    file: str
    backing: Node | None = None
    writable: bool = True
    file_node: str = ""

    def __post_init__(self) -> None:
        self.file_node = self.file_node or f"file of {self.name}"

    def read(self) -> list[int]:
        blocks, node = list(self.inode.blocks), self.backing
        while node:
            blocks, node = over(blocks, node.inode.blocks), node.backing
        return [block or 0 for block in blocks]

    def chain(self) -> list[Node]:
        return [self, *(self.backing.chain() if self.backing else [])]


class Qemu:
    """One device model: a root node for each disk that it serves."""

    def __init__(self, files: Files, disks: dict[str, str]) -> None:
        self.files = files
        self.nodes: dict[str, Node] = {}
        self.plain: dict[str, str] = {}
        self.held: dict[str, str] = {}  # node that is over a file node -> that one
        self.jobs: dict[str, dict[str, Any]] = {}
        self.count = 0
        self.roots = {vdev: self._open(path, f"{vdev}-{files.names[path].kind}").name for vdev, path in disks.items()}

    def _open(self, path: str, name: str = "") -> Node:
        self.count += 1
        known = name or f"#block{self.count:03}"
        inode = self.files.names[path]
        backing = self._open(inode.backing) if inode.backing else None
        node = Node(known, inode, path, backing, bool(name))
        self.nodes[node.name] = node
        return node

    def root(self, vdev: str) -> Node:
        return self.nodes[self.roots[vdev]]

    def inodes(self) -> set[int]:
        return {node.inode.number for node in self.nodes.values()}

    def _again(self, node: Node, *, writable: bool) -> None:
        """Change a node between reading and writing: the file is opened again by the remembered name, if that is there.

        Seen on QEMU 7.2 and 10.0; a switch to reading that finds no file fails in silence, and the node stays.
        """
        if node.writable != writable and node.file in self.files.names:
            node.inode, node.writable = self.files.names[node.file], writable
        elif writable:
            assert node.writable, f"{node.file} is not there to be opened for writing"

    def send(self, execute: str, arguments: dict[str, Any]) -> Any:
        """Return what QMP returns; raises Trouble for an error, AssertionError for what the model does not know."""
        known = getattr(self, "_" + execute.replace("-", "_"), None)
        assert known, f"the model knows no {execute}"
        return known(**{key.replace("-", "_"): value for key, value in arguments.items()})

    def _query_block(self) -> Any:
        return [{"inserted": {"node-name": name}} for name in self.roots.values()]

    def _query_named_block_nodes(self) -> Any:
        return [{"file": node.file, "node-name": node.name} for node in self.nodes.values()]

    def _query_jobs(self) -> Any:
        return [{"id": name, "status": job["status"]} for name, job in self.jobs.items()]

    def _human_monitor_command(self, command_line: str) -> Any:
        assert command_line.startswith("qemu-io ")
        return ""

    def _blockdev_add(self, driver: str, node_name: str, file: Any = None, filename: str = "", **_: Any) -> Any:
        if {node_name} & (self.nodes.keys() | self.plain.keys() | self.held.keys()):
            raise Trouble("Duplicate nodes")
        if driver == "file":
            self.plain[node_name] = filename
        elif isinstance(file, str):
            self.held[node_name] = file
        else:
            self.nodes[node_name] = Node(node_name, self.files.names[file["filename"]], file["filename"])
        return {}

    def _blockdev_reopen(self, options: list[dict[str, Any]]) -> Any:
        node = self.nodes[options[0]["node-name"]]
        assert node.backing and node.backing.name == options[0]["backing"]
        assert node.file_node in self.held.values(), "QEMU 7.2 ends when a file goes away in the middle of this"
        node.file_node = options[0]["file"]
        node.file = self.plain[node.file_node]
        node.inode, node.writable = self.files.names[node.file], False
        return {}

    def _blockdev_del(self, node_name: str) -> Any:
        if self.held.pop(node_name, ""):
            return {}
        if node_name not in self.nodes:
            raise Trouble(f"Failed to find node with node-name='{node_name}'")
        if any(self.nodes[node_name] in self.root(vdev).chain() for vdev in self.roots):
            raise Trouble("Node is in use")
        del self.nodes[node_name]
        return {}

    def _transaction(self, actions: list[dict[str, Any]]) -> Any:
        if actions[-1]["type"] == "abort":
            raise Trouble("Transaction aborted using Abort action")
        for action in actions:
            self.send(action["type"], action["data"])
        return {}

    def _blockdev_snapshot(self, node: str, overlay: str) -> Any:
        vdev = next(vdev for vdev, name in self.roots.items() if name == node)
        self.nodes[overlay].backing = self.nodes[node]
        self.roots[vdev] = overlay
        self._again(self.nodes[node], writable=False)
        return {}

    def _blockdev_snapshot_internal_sync(self, device: str, name: str) -> Any:
        tags = self.nodes[device].inode.tags
        if name in tags:
            raise Trouble(f"Snapshot with name '{name}' already exists")
        tags[name] = list(self.nodes[device].inode.blocks)
        return {}

    def _blockdev_snapshot_delete_internal_sync(self, device: str, name: str) -> Any:
        if self.nodes[device].inode.tags.pop(name, None) is None:
            raise Trouble(f"Snapshot with id 'null' and name '{name}' does not exist on device '{device}'")
        return {}

    def _blockdev_backup(self, device: str, target: str, job_id: str, **_: Any) -> Any:
        self.nodes[target].inode.blocks = list(self.nodes[device].read())
        self.jobs[job_id] = {"status": "concluded"}
        return {}

    def _block_stream(
        self,
        device: str,
        job_id: str,
        base_node: str = "",
        backing_file: str = "",
        auto_finalize: bool = True,
        **_: Any,
    ) -> Any:
        node = self.nodes[device]
        read_only = not node.writable
        self._again(node, writable=True)
        below: Blocks = [None] * BLOCKS
        step = node.backing
        while step and step.name != base_node:
            below, step = over(below, step.inode.blocks), step.backing
        node.inode.blocks = over(node.inode.blocks, below)
        self.jobs[job_id] = {"status": "pending", "node": node, "base": step, "file": backing_file, "reads": read_only}
        if auto_finalize:
            self.send("job-finalize", {"id": job_id})
        return {}

    def _job_finalize(self, id: str) -> Any:  # noqa: A002  # QMP's own name
        job = self.jobs[id]
        node = job["node"]
        dropped = set(map(id_of, node.chain())) - {id_of(node), *map(id_of, job["base"].chain() if job["base"] else [])}
        node.backing, node.inode.backing = job["base"], job["file"]
        self.nodes = {name: each for name, each in self.nodes.items() if id_of(each) not in dropped}
        if job["reads"]:
            self._again(node, writable=False)
        job["status"] = "concluded"
        return {}

    def _block_commit(self, device: str, base_node: str, job_id: str, **_: Any) -> Any:
        top, base = self.nodes[device], self.nodes[base_node]
        self._again(base, writable=True)
        base.inode.blocks = over(top.inode.blocks, base.inode.blocks)
        self.jobs[job_id] = {"status": "ready", "top": device, "into": base_node}
        return {}

    def _job_complete(self, id: str) -> Any:  # noqa: A002
        job = self.jobs[id]
        vdev = next(vdev for vdev, name in self.roots.items() if name == job["top"])
        self.roots[vdev] = job["into"]
        self.nodes[job["top"]].backing = None
        job["status"] = "concluded"
        return {}

    def _job_cancel(self, id: str) -> Any:  # noqa: A002
        if self.jobs[id]["status"] == "concluded":
            raise Trouble("Job is concluded")
        self.jobs[id]["status"] = "concluded"
        return {}

    def _job_dismiss(self, id: str) -> Any:  # noqa: A002
        if id not in self.jobs:
            raise Trouble("Job not found")
        del self.jobs[id]
        return {}


def id_of(node: Node) -> int:
    return id(node)
