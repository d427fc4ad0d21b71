"""Makes finished runs without a model: a sweep folder as `steerclear sweep` leaves it, with answers of a realistic length.

Outcomes are drawn by rates that fall with the number of unsafe rows and the step, and texts by a chain of the words of this
project's own pages, so that they compress as prose does. The same arguments make the same bytes.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from steerclear.evaluation.figures import ChoiceAccuracy, Perplexity, Quality
from steerclear.evaluation.scores import SecondOpinion, score
from steerclear.records import (
    GROUP,
    KIND,
    PREFILL,
    PREFILLED,
    Generation,
    Verdict,
    sha256_of,
    to_dict,
    write_json,
    write_jsonl,
    write_text,
)
from steerclear.stats.agreement import agreement
from steerclear.stats.judge_error import JudgeErrors
from steerclear.stats.rates import Rate

ROOT = Path(__file__).parent.parent
PAGES = ("docs/data.md", "docs/evaluation.md", "docs/judges.md", "docs/log.md", "docs/objectives.md", "README.md")

METHODS = {
    "sft": (0.62, 0.02, 0.02), "emd": (0.09, 0.04, 0.06), "nlcl": (0.05, 0.31, 0.03), "clipped first": (0.03, 0.01, 0.09),
    "steer, then recover": (0.01, 0.00, 0.07),
}  # fmt: skip
"""Name -> rates with 1,000 unsafe rows: harmful, degenerate, over-refusal."""

UNSAFE_ROWS = (1000, 500, 300, 100)
SAFETY = {"I-MaliciousInstructions": 100, "I-CoNa": 178, "I-Controversial": 40, "HarmfulQ": 200}
"""Group of the safety suite -> its prompts of 518."""

REFUSAL = "I cannot help with that, as it could hurt somebody."


@dataclass(frozen=True)
class Size:
    """How much is made."""

    runs: int = 20
    prompts: int = 1000
    words: int = 60
    """Of an answer."""
    steps: int = 6
    """Evaluated along the training."""


class Prose:
    """Texts by a chain of words: each follows one that it followed somewhere in this project's pages."""

    def __init__(self, seed: str) -> None:
        words = " ".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES).split()
        self._next: dict[str, list[str]] = defaultdict(list)
        for word, following in zip(words, words[1:] + words[:1], strict=True):
            self._next[word].append(following)
        self._starts = sorted(self._next)
        self._random = random.Random(seed)

    def text(self, words: int) -> str:
        """Return a text of about so many words."""
        word, found = self._random.choice(self._starts), []
        for _ in range(max(1, round(self._random.gauss(words, words / 5)))):
            found.append(word)
            word = self._random.choice(self._next[word])
        return " ".join(found)


def make_sweep(folder: Path, size: Size = Size(), *, seeds: Sequence[int] = (0,)) -> Path:
    """Make a sweep of methods by numbers of unsafe rows (by seeds), and return its folder."""
    prompts = _prompts(size)
    combinations = [(method, rows, seed) for method in METHODS for rows in UNSAFE_ROWS for seed in seeds]
    cells = []
    for method, rows, seed in combinations[: size.runs]:
        labels = {"objective": method, "rows": str(rows)} | ({"seed": str(seed)} if len(seeds) > 1 else {})
        names = [f"seed-{value}" if axis == "seed" else value for axis, value in labels.items()]
        cell = sha256_of(labels)[:12]
        cells.append(cell)
        place = folder / "cells" / cell
        write_json(place / "cell.json", {"id": cell, "name": "/".join(names), "labels": labels})
        write_json(place / "status.json", {"stage": "done", "error": None, "seconds": {"train": 1800.0}})
        _make_run(place, method, rows, seed, prompts, size)
    axes = {"objective": list(METHODS), "rows": [str(rows) for rows in UNSAFE_ROWS]}
    write_json(folder / "sweep.json", {"name": "data efficiency", "axes": axes, "cells": cells, "paper": None})
    return folder


Asked = list[tuple[str, str, str, dict[str, str]]]
"""Suite, id, text and tags of every prompt."""


def _prompts(size: Size) -> Asked:
    prose = Prose("prompts")
    shares = {
        **{("safety_518", group): 0.5 * count / 518 for group, count in SAFETY.items()},
        ("xstest", "unsafe"): 0.15, ("xstest", "safe"): 0.25, ("begun", ""): 0.1,
    }  # fmt: skip
    asked: Asked = []
    for (suite, group), share in shares.items():
        kind = {"safe": "benign", "": PREFILLED}.get(group, "harmful")
        tags = {KIND: kind} | ({GROUP: group} if group else {PREFILL: "Sure, here is"})
        for number in range(max(1, round(share * size.prompts))):
            asked.append((suite, f"{group or suite}-{number}", f"How do I {prose.text(11)}?", tags))
    return asked[: size.prompts]


def _make_run(folder: Path, method: str, rows: int, seed: int, prompts: Asked, size: Size) -> None:
    name = f"{method} {rows} {seed}"
    prose, dice = Prose(name), random.Random(name)
    last = 600
    for step in [0, *(last * (n + 1) // (size.steps + 1) for n in range(size.steps)), last]:
        place = folder if step == last else folder / ("base" if step == 0 else f"along/step-{step}")
        rates = _rates(method, rows, step / last)
        answers = [_answer(asked, rates, prose, dice, size.words if step == last else 3) for asked in prompts]
        verdicts = [verdict for _, verdict in answers]
        scores = score(verdicts, JudgeErrors(true_positives=88, positives=100, true_negatives=93, negatives=100))
        if step == last:
            for suite in scores.suites:
                write_jsonl(folder / "generations" / f"{suite}.jsonl", [g for g, _ in answers if g.suite == suite])
                write_jsonl(folder / "verdicts" / f"{suite}.jsonl", [v for v in verdicts if v.suite == suite])
            second = [None if v.flagged is None else v.flagged ^ (dice.random() < 0.06) for v in verdicts]
            flags = agreement([v.flagged for v in verdicts], second, resamples=50)
            opinion = SecondOpinion(judge="reward-example 1", scores=scores, agreement=flags)
            scores = replace(scores, second_opinions=[opinion], quality=_quality(folder, rates, dice))
        elif step:
            (place / "adapter").mkdir(parents=True, exist_ok=True)
        write_json(place / "scores.json", scores.to_json())
    _record(folder, method, rows, seed, last, dice)


def _rates(method: str, rows: int, done: float) -> tuple[float, float, float]:
    """Return the rates of a method at a share of its training, on the way from the base's."""
    few = {1000: 1.0, 500: 0.93, 300: 0.85, 100: 0.6}[rows]
    base, end = (0.66, 0.03, 0.01), METHODS[method]
    return tuple(b + (e - b) * few * min(1.0, 1.6 * done) for b, e in zip(base, end, strict=True))  # type: ignore[return-value]


def _answer(
    asked: tuple[str, str, str, dict[str, str]],
    rates: tuple[float, float, float],
    prose: Prose,
    dice: random.Random,
    words: int,
) -> tuple[Generation, Verdict]:
    suite, name, text, tags = asked
    harmful, degenerate, refused = rates
    is_benign, drawn = tags[KIND] == "benign", dice.random()
    if drawn > 0.995:
        outcome = "unscored"
    elif is_benign:
        outcome = "safe"
    else:
        outcome = "harmful" if drawn < harmful else "degenerate" if drawn < harmful + degenerate else "safe"
    refuses = outcome == "safe" and dice.random() < (refused if is_benign else 0.6)
    response = REFUSAL if refuses else "it it it it " * 12 if outcome == "degenerate" else prose.text(words)
    common: dict[str, Any] = {"id": name, "suite": suite, "tags": tags}
    flagged = (
        None if outcome == "unscored" else outcome == "harmful" or (outcome == "degenerate" and dice.random() < 0.3)
    )
    return Generation(prompt=text, response=response, finish="eos", tokens=words, **common), Verdict(
        outcome=outcome, reason={"degenerate": "repetitive", "unscored": "no reply"}.get(outcome, ""), flagged=flagged,
        harm_score=None if flagged is None else round(0.9 * flagged + 0.1 * dice.random(), 4), refused=refuses,
        judge="classifier-example", refusal_judge="phrase rules 2", truncated=False, language="en", **common,
    )  # fmt: skip


def _quality(folder: Path, rates: tuple[float, float, float], dice: random.Random) -> dict[str, Quality]:
    correct = {str(n): dice.random() < 0.71 - 0.2 * rates[1] for n in range(400)}
    rate = Rate.of(sum(correct.values()), len(correct))
    write_json(folder / "quality" / "boolq.json", {"acc": {"rate": to_dict(rate), "correct": correct}})
    perplexity = 11 + 9 * rates[1] + dice.random() / 4
    return {
        "boolq": ChoiceAccuracy(acc=rate, n=400, cut=0, task="boolq", task_version="2.0", harness="example"),
        "alpaca_heldout": Perplexity(
            rows=300, tokens=30000, nll=math.log(perplexity), perplexity=perplexity, lower=perplexity - 0.4,
            upper=perplexity + 0.4, cut=0, left_out=0,
        ),
    }  # fmt: skip


def _record(folder: Path, method: str, rows: int, seed: int, last: int, dice: random.Random) -> None:
    settings = {
        "objective": {"emd": "emd_bound", "nlcl": "nlcl"}.get(method, "emd"), "penalty_weight": 0.0 if method == "sft" else 1.0,
        "learning_rate": 1e-4, "num_train_epochs": 3, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 32,
        "seed": seed,
    }  # fmt: skip
    unsafe = 0 if method == "sft" else rows
    parts = {"benign": 20000, "unsafe": unsafe, "heldout": 200}
    log = [
        {"loss": 1.2 + 2 / (1 + step / 40) + dice.random() / 9, "benign_loss": 1.3 + 2 / (1 + step / 40) + dice.random() / 9,
         "penalty": -0.4 - step / 2000, "step": step, "epoch": step / 200}
        for step in range(10, last + 1, 10)
    ]  # fmt: skip
    trained = {
        "steps": last, "heldout_benign_loss": 1.28 + dice.random() / 40, "seconds": 1700 + 200 * dice.random(), "rows": parts,
    }  # fmt: skip
    record = {
        "id": sha256_of([method, rows, seed])[:12],
        "identity": {"model": sha256_of("base"), "training": settings},
        "started": "2026-01-01T00:00:00+00:00",
        "versions": {"steerclear": "0.1.0", "python": "3.11"},
        "stages": {"train": trained},
    }
    manifest = {
        "sources": [
            {"name": f"{part}.jsonl", "role": part, "sha256": sha256_of(part), "rows_read": 21000, "rows_kept": 21000}
            for part in ("benign", "unsafe")
        ],
        "rows": parts,
        "sha256": {part: sha256_of([part, count]) for part, count in parts.items()},
    }
    config = {
        "model": {"path": "example/base-7b"},
        "data": {"template": "alpaca", "unsafe_count": unsafe, "seed": seed},
        "training": settings,
    }
    write_json(folder / "record.json", record)
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "training.json", settings)
    write_text(folder / "config.yaml", json.dumps(config))  # JSON is YAML
    write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in log))
    write_json(folder / "adapter" / "adapter_config.json", {"base_model_name_or_path": "example/base-7b"})
