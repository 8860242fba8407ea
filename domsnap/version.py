"""The version of domsnap, in one place."""

VERSION = "0.1.0"
# Day of the release, for the manual page.
DATE = "2026-11-23"
