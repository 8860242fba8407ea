"""What `lvs` and `vgs` report as JSON, with sizes in bytes and without suffix."""

from __future__ import annotations

from collections.abc import Iterator

from executor.parse.unreadable import member, read_json, unreadable
from planner.facts import Volume, VolumeGroup, VolumeKind

LVS = (
    "lvs --reportformat json --units b --nosuffix "
    "-o vg_name,lv_name,lv_uuid,lv_path,lv_size,lv_attr,lv_tags,pool_lv,origin,data_percent,metadata_percent,segtype"
)
VGS = "vgs --reportformat json --units b --nosuffix -o vg_name,vg_uuid,vg_size,vg_free,vg_extent_size"
VERSION = "lvm version"

# lv_tags came later into the recordings; without it no volume has a tag.
_LV = frozenset(LVS.partition("-o ")[2].split(",")) - {"lv_tags", "lv_path"}
_VG = frozenset(VGS.partition("-o ")[2].split(",")) - {"vg_uuid"}
_KINDS: dict[str, VolumeKind] = {
    "linear": "linear", "striped": "striped", "thin": "thin", "thin-pool": "thin-pool", "snapshot": "thick-snapshot",
}  # fmt: skip


def volumes(text: str) -> Iterator[Volume]:
    """Yield the logical volumes; what the letters of lv_attr mean is in lvs(8)."""
    for row in _report("lvs", text, "lv", _LV):
        attributes = row["lv_attr"]
        if len(attributes) < 5:
            raise unreadable("lvs", attributes, "lv_attr is too short")
        kind = "thick-snapshot" if attributes[0] in "sS" else _KINDS.get(row["segtype"], "other")
        yield Volume(
            vg=row["vg_name"],
            name=row["lv_name"],
            uuid=row["lv_uuid"],
            size=_number("lvs", row["lv_size"]),
            kind=kind,
            pool=row["pool_lv"],
            origin=row["origin"],
            data_percent=_percent(row["data_percent"]),
            metadata_percent=_percent(row["metadata_percent"]),
            active=attributes[4] in "asIS",
            invalid=attributes[4] in "IS",
            tags=tuple(filter(None, row.get("lv_tags", "").split(","))),
        )


def groups(text: str) -> Iterator[VolumeGroup]:
    for row in _report("vgs", text, "vg", _VG):
        sizes = (_number("vgs", row[key]) for key in ("vg_size", "vg_free", "vg_extent_size"))
        yield VolumeGroup(row["vg_name"], *sizes)


def version(text: str) -> str:
    """Return LVM's version without the library's, "" for a host without LVM."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "LVM version":
            return value.strip().partition("(")[0]
    if text.strip():
        raise unreadable(VERSION, text, "no line 'LVM version'")
    return ""


def path(volume: Volume) -> str:
    """Return the name under /dev that stays when a volume is activated anew; /dev/dm-N does not."""
    return f"/dev/{volume.vg}/{volume.name}"


def mapper_path(volume: Volume) -> str:
    """Return the other name: hyphens are doubled, and one joins group and volume."""
    return f"/dev/mapper/{volume.vg.replace('-', '--')}-{volume.name.replace('-', '--')}"


def _report(command: str, text: str, key: str, columns: frozenset[str]) -> Iterator[dict[str, str]]:
    if not text.strip():  # a host without LVM
        return
    for report in member(command, read_json(command, text), "report"):
        for row in member(command, report, key):
            missing = sorted(columns - set(row))
            if missing:
                raise unreadable(command, str(row), f"no column {missing[0]!r}")
            yield row


def _number(command: str, said: str) -> int:
    if not said.isdecimal():
        raise unreadable(command, said, "not a number of bytes")
    return int(said)


def _percent(said: str) -> float | None:
    try:
        return float(said) if said else None
    except ValueError:
        raise unreadable("lvs", said, "not a percentage") from None
