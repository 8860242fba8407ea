"""Reading a live Xen host: its programs, its QEMUs' monitors and its kernel are asked; nothing is changed."""
