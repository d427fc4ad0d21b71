"""What a harvest is made of, as one JSON object: sources, prompts, answers, judges, what was taken and what was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from steerclear.config import to_tree
from steerclear.data.manifest import hash_rows
from steerclear.generation.model import name_of, source_identity
from steerclear.harvest.harvest_recipe import HarvestRecipe
from steerclear.harvest.prompts import CATEGORY, PromptsRead
from steerclear.harvest.selection import Candidate, Selection
from steerclear.records import SCHEMA_VERSION, Generation, Prompt, Row, Verdict, sha256_of
from steerclear.stats.agreement import agreement
from steerclear.store.runs import versions


@dataclass(frozen=True)
class Asked:
    """The toxic prompts of a harvest."""

    read: PromptsRead
    contaminated: dict[str, int]
    """``equal`` and ``near``: prompts left out as they are evaluation prompts."""
    prompts: list[Prompt]


@dataclass(frozen=True)
class Judged:
    """The answers of a harvest, what the first judge makes of each, and what all say of it."""

    answers: list[Generation]
    verdicts: list[Verdict]
    candidates: list[Candidate]


def build_manifest(
    recipe: HarvestRecipe,
    asked: Asked,
    judged: Judged,
    selection: Selection,
    rows: Mapping[str, Sequence[Row]],
    decisions: int,
) -> dict[str, Any]:
    """Return the manifest: JSON-ready, without a folder name or a text of a prompt or an answer.

    Args:
        rows: ``unsafe`` and ``self_safe``: the rows that the selection became.
        decisions: a person's decisions that it heeded.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {"name": name_of(recipe.answering()), "identity": sha256_of(source_identity(recipe.answering()))},
        "template": recipe.data.template,
        "generation": to_tree(recipe.harvest.generation),
        "sources": [asdict(source) for source in asked.read.sources],
        "licences": [source.licence for source in recipe.harvest.prompts],
        "prompts": {**asked.read.counts, "evaluation": asked.contaminated, "asked": len(asked.prompts)},
        "samples": recipe.harvest.samples,
        "answers": {
            "all": len(judged.answers),
            "finishes": _counted([answer.finish for answer in judged.answers]),
            "outcomes": _counted([verdict.outcome for verdict in judged.verdicts]),
            "refused": sum(verdict.refused is True for verdict in judged.verdicts),
            "languages": _counted([verdict.language for verdict in judged.verdicts]),
        },
        "judges": _judges(judged.candidates),
        "refusal_judges": sorted({verdict.refusal_judge for verdict in judged.verdicts} - {""}),
        "selection": {
            "rows": recipe.harvest.rows,
            "subsets": recipe.harvest.subsets,
            "near_duplicates": recipe.harvest.near_duplicates,
            "decisions": decisions,
            "confirmed": selection.confirmed,
            "left_out": selection.left_out,
        },
        "categories": _categories(asked.prompts, selection),
        "rows": {name: len(taken) for name, taken in rows.items()},
        "sha256": {name: hash_rows(taken) for name, taken in rows.items()},
        "versions": versions(),
    }


def _counted(values: Sequence[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _judges(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return what each judge says, and how far each two agree beyond chance."""
    names = list(candidates[0].flags)
    flags = {name: [candidate.flags[name] for candidate in candidates] for name in names}
    prompts = [candidate.prompt_id for candidate in candidates]
    return {
        "flagged": {name: sum(flag is True for flag in own) for name, own in flags.items()},
        "unscored": {name: own.count(None) for name, own in flags.items()},
        "agreement": [
            {"first": first, "second": second, **asdict(agreement(flags[first], flags[second], prompts=prompts))}
            for first, second in combinations(names, 2)
        ],
    }


def _categories(prompts: Sequence[Prompt], selection: Selection) -> dict[str, dict[str, int]]:
    asked = Counter(prompt.tags[CATEGORY] for prompt in prompts)
    taken = Counter(candidate.category for candidate in selection.unsafe)
    return {name: {"prompts": asked[name], "unsafe_rows": taken[name]} for name in sorted(asked)}
