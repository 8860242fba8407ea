"""The door: command line, rendering for people, the public Python API."""
