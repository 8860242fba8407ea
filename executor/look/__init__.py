"""Reading a live Xen host: its programs, its QEMUs' monitors and its kernel are asked; nothing is changed."""

from executor.look.host import observe

__all__ = ["observe"]
