"""The fine-tuning attack: a few steps on an attacker's rows, on top of the trained weights (Qi et al. 2023, arXiv 2310.03693)."""

from __future__ import annotations

from dataclasses import dataclass

from steerclear.config import raise_all


@dataclass(frozen=True, kw_only=True)
class FineTuningOptions:
    """A short fine-tuning by the attacker, or by a user who means no harm: harmless rows can undo safety too."""

    name: str
    """Name in tables and of its folder."""
    rows: str
    """File or Hub name of the rows that are imitated."""
    harmful: bool = False
    """Imitate the rows that training would avoid: unsafe answers. Off: the harmless ones."""
    count: int | None = None
    """So many rows, a fixed sample. None: all."""
    steps: int = 10
    """Optimizer steps."""
    batch_size: int = 10
    """Rows of a step."""
    learning_rate: float = 1e-4
    """Constant, of AdamW."""
    seed: int = 0
    """Of the sample and the order of rows."""

    def __post_init__(self) -> None:
        checks = [
            (bool(self.name) and "/" not in self.name, f"name: got {self.name!r}, allowed: a file name without slashes."),
            (self.count is None or self.count >= 1, f"count: got {self.count}, allowed: 1 or more, or null for all."),
            (self.steps >= 1, f"steps: got {self.steps}, allowed: 1 or more."),
            (self.batch_size >= 1, f"batch_size: got {self.batch_size}, allowed: 1 or more."),
            (self.learning_rate > 0, f"learning_rate: got {self.learning_rate}, allowed: above 0."),
        ]  # fmt: skip
        raise_all([message for right, message in checks if not right])
