"""The guides for those who come from another queue: docs/migrate."""
