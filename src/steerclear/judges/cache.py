"""Scores kept on disk by the content that was judged, so that nothing is judged twice: not by a run that goes on after a kill,
nor by another run that got the same answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from steerclear.judges.base import HarmJudge, HarmScore, Unscored, score_each
from steerclear.records import JsonlAppender, cut_unfinished_line, read_records, sha256_of


@dataclass(frozen=True, kw_only=True)
class KeptScore:
    """A line of the cache."""

    key: str
    """SHA-256 of judge, prompt and response."""
    score: float
    flagged: bool
    categories: Mapping[str, float]
    refused: bool | None


class CachedJudge:
    """A harm judge that remembers. Failures are not kept: the next run asks again.

    Args:
        judge: the judge that is asked for what is not known yet.
        folder: where its scores are kept, in a file of the judge's name. Several judges may share it, several processes may not.
    """

    def __init__(self, judge: HarmJudge, folder: Path) -> None:
        self._judge = judge
        self.name = judge.name
        self.batch_size = 1_000_000  # everything at once: the batches are those of the judge behind
        self.file = folder / (re.sub(r"[^\w.-]+", "_", judge.name) + ".jsonl")
        cut_unfinished_line(self.file)
        kept = read_records(self.file, KeptScore) if self.file.is_file() else []
        self._known = {
            k.key: HarmScore(score=k.score, flagged=k.flagged, categories=k.categories, refused=k.refused) for k in kept
        }

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[HarmScore | Unscored]:
        """Return the scores, those not known yet from the judge behind. The same answer twice is asked once."""
        keys = [sha256_of([self.name, *pair]) for pair in zip(prompts, responses, strict=True)]
        first = {key: index for index, key in reversed(list(enumerate(keys))) if key not in self._known}
        missing = sorted(first.values())
        failed: dict[str, HarmScore | Unscored] = {}
        if missing:
            with JsonlAppender(self.file) as out:

                def keep(indices: list[int], scores: list[HarmScore | Unscored]) -> None:
                    for place, score in zip(indices, scores, strict=True):
                        key = keys[missing[place]]
                        if isinstance(score, Unscored):
                            failed[key] = score
                            continue
                        self._known[key] = score
                        out.append(KeptScore(key=key, **asdict(score)))

                score_each(self._judge, [prompts[i] for i in missing], [responses[i] for i in missing], keep)
        return [self._known.get(key) or failed[key] for key in keys]
