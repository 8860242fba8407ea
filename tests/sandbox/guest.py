"""A guest in one boot sector: it counts in its memory and on every disk, so that both can be told to be of one instant.

At each tick of the timer (18 a second) it adds one to the counter in its memory, then writes the counter to every BIOS
hard disk in turn, 0x80 first: to a ring of 1024 sectors that keeps what it wrote before, then to sector 1. One word of
memory holds the counter and how many disks have it already, so at no instant is it unclear what a disk must hold.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

PAGE = 0x8000  # physical address of the guest's own page
MAGIC = 0x544E5544
OFF, CRASH, REBOOT = 1, 2, 3  # what the guest may be asked for; it says so too, and counts no more
ASKED, SAID = PAGE + 0x10, PAGE + 0x14
SECTOR = 512
RING, FIRST = 1024, 64  # sectors of the ring, and the first of them
LEAST = (FIRST + RING) * SECTOR  # bytes that a disk must have at least

# The page: +0 magic, +4 counter << 8 | disks written, +0xc disks, +0x10 asked, +0x14 said, +0x18 writes that failed.
# 0x8100 is the packet of int 13h (functions 42h and 43h), 0x8200 the sector: counter, magic. 0x46c is the BIOS's timer,
# 0x475 its number of hard disks. A guest that starts goes on from what its first disk holds.
LISTING = """
                      start:
fa                    cli
31c0                  xor ax, ax
8ed8                  mov ds, ax
8ec0                  mov es, ax
8ed0                  mov ss, ax
bc007c                mov sp, 0x7c00
fb                    sti
fc                    cld
bf0080                mov di, 0x8000
b90008                mov cx, 0x800
f3ab                  rep stosw
be0081                mov si, 0x8100
c60410                mov byte [si], 16             ; size of the packet
c6440201              mov byte [si + 2], 1          ; sectors
c744040082            mov word [si + 4], 0x8200     ; buffer
c6440801              mov byte [si + 8], 1          ; sector 1
a07504                mov al, [0x475]
a20c80                mov [0x800c], al
b442                  mov ah, 0x42
b280                  mov dl, 0x80
cd13                  int 0x13
66bb44554e54          mov ebx, MAGIC
6631c0                xor eax, eax
66391e0482            cmp [0x8204], ebx
7504                  jne fresh
66a10082              mov eax, [0x8200]
                      fresh:
66c1e008              shl eax, 8
a00c80                mov al, [0x800c]
66a30480              mov [0x8004], eax
66891e0482            mov [0x8204], ebx
66891e0080            mov [0x8000], ebx
                      tick:
a16c04                mov ax, [0x46c]
                      wait:
f4                    hlt
3b066c04              cmp ax, [0x46c]
74f9                  je wait
66a11080              mov eax, [0x8010]
6685c0                test eax, eax
7408                  jz round
66a31480              mov [0x8014], eax
fa                    cli
                      end:
f4                    hlt
ebfd                  jmp end
                      round:
66a10480              mov eax, [0x8004]
30c0                  xor al, al
660500010000          add eax, 0x100
66a30480              mov [0x8004], eax             ; counter + 1, no disk has it: in one write
66c1e808              shr eax, 8
66a30082              mov [0x8200], eax
b280                  mov dl, 0x80
                      disk:
88d0                  mov al, dl
2c80                  sub al, 0x80
3a060c80              cmp al, [0x800c]
73c1                  jae tick
be0081                mov si, 0x8100
66a10082              mov eax, [0x8200]
6625ff030000          and eax, RING - 1
6683c040              add eax, FIRST
66894408              mov [si + 8], eax
b80043                mov ax, 0x4300
cd13                  int 0x13
720f                  jc failed
66c7440801000000      mov dword [si + 8], 1
b80043                mov ax, 0x4300
cd13                  int 0x13
7305                  jnc written
                      failed:
66ff061880            inc dword [0x8018]
                      written:
66ff060480            inc dword [0x8004]
42                    inc dx
ebbe                  jmp disk
"""


def boot_sector() -> bytes:
    """Return the 512 bytes that must be sector 0 of the first disk."""
    code = bytes.fromhex("".join(line[:22] for line in LISTING.splitlines()))
    return code.ljust(510, b"\0") + b"\x55\xaa"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the guest's page says. counter: of this round. written: how many disks hold it by now. said: 0 while the
    guest runs, then OFF, CRASH or REBOOT. failures: writes to a disk that failed."""

    counter: int
    written: int
    disks: int
    said: int
    failures: int


def mark(page: bytes) -> Mark | None:
    """Read the guest's page; None while the BIOS is still at work."""
    magic, word, _, disks, _, said, failures = struct.unpack_from("<7I", page)
    return Mark(word >> 8, word & 0xFF, disks, said, failures) if magic == MAGIC else None


def counter(sector: bytes) -> int:
    """Return the counter that a sector holds, 0 if the guest never wrote to it."""
    value, magic = struct.unpack_from("<II", sector)
    return value if magic == MAGIC else 0


@dataclass(frozen=True, slots=True)
class Instant:
    """A guest's memory and disks, read while it stood still. disks: vdev -> counter, in the order of the BIOS; None for
    a disk that does not count."""

    mark: Mark
    disks: Mapping[str, int | None]

    @property
    def tear(self) -> str:
        """Say which disk is not of the memory's instant, "" if all are.

        A disk holds the counter once the memory says so, and the one before until it is its turn. The one disk whose
        turn it is may hold either: its write was in flight.
        """
        now = self.mark.counter
        for number, (vdev, held) in enumerate(self.disks.items()):
            if number < self.mark.written:
                allowed = {now}
            else:
                allowed = {now - 1, now} if number == self.mark.written else {now - 1}
            if held is not None and held not in allowed:
                return f"{vdev} holds {held}, and the memory is at {now} with {self.mark.written} disks written"
        return ""


def damage(disk: bytes) -> str:
    """Say what is wrong with a whole disk, "" if nothing: a write that was lost, or one of a time to come.

    A disk that was brought back must not hold what was written after that instant; its guest would soon hide it in
    sector 1, but not in the ring.
    """
    last = counter(disk[SECTOR : 2 * SECTOR])
    for place in range(RING):
        start = (FIRST + place) * SECTOR
        held = counter(disk[start : start + SECTOR])
        due = last - (last - place) % RING  # the newest number that belongs here
        if held != max(due, 0) and held != last + 1:
            return f"sector 1 says {last}, and where {max(due, 0)} should be the ring holds {held}"
    return ""
