"""The version of domsnap, in one place."""

VERSION = "0.1.0"
