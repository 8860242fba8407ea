"""The language: JSON Schemas, YAML with source positions, diagnostics."""
