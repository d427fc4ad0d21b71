"""Data: reading, choosing and mixing rows, tokens and signed labels."""

from __future__ import annotations

from pathlib import Path


def examples_folder() -> Path:
    """Return the folder of the small example files: ``benign.jsonl``, ``unsafe.jsonl`` and ``prompts.jsonl``."""
    return Path(__file__).parent / "examples"
