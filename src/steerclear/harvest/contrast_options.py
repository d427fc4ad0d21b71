"""Which words are toxic, and which answers become contrastive rows. Nothing heavy, so that recipes can be read without it."""

from __future__ import annotations

from dataclasses import dataclass, field

from steerclear.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WordOptions:
    """Which words of the toxic prompts count as toxic. See `steerclear.harvest.words.toxic_words`."""

    count: int = 667
    """At most so many, those of the highest z. The paper has 3,335 prompts of 5 a word from 1,000 toxic prompts."""
    min_count: int = 3
    """Fewest times that a word is in the toxic prompts."""
    min_z: float = 1.96
    """Lowest z score of the word's log-odds ratio; 1.96 is the 2.5 % tail."""
    min_log_odds: float = 3.0
    """Lowest log-odds ratio: 3 means that toxic prompts have the word 20 times as often as benign text. A high z alone does not
    make a word toxic: prompts that ask have "want" far more often than texts that tell, and with certainty."""
    prior_share: float = 0.05
    """Weight of the prior, as a share of the toxic prompts' words: the more, the more a rare word needs to stand out."""
    exclude: list[str] = field(default_factory=list)
    """Words that are left out, such as slurs, which have no harmless use to ask for."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}: got {getattr(self, name)}, allowed: 1 or more."
            for name in ("count", "min_count")
            if getattr(self, name) < 1
        ]
        if not 0 <= self.prior_share < float("inf"):
            problems.append(f"prior_share: got {self.prior_share}, allowed: 0 or more.")
        if problems:
            raise ConfigError("\n".join(problems))


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """Which answers become rows, of those that are judged harmless, not refused and not degenerate."""

    cut_from: int | None = 20
    """An answer that was cut at the token limit loses its unfinished sentence before it is judged, and is kept if so many words
    or more remain. None: it is left out, as it may teach to stop early."""

    def __post_init__(self) -> None:
        if self.cut_from is not None and self.cut_from < 1:
            raise ConfigError(
                f"cut_from: got {self.cut_from}, allowed: 1 word or more, or null to leave cut answers out."
            )
