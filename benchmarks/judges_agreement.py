"""How well the refusal detectors agree with people, and how well broken answers are told from true ones, as Markdown.

    python benchmarks/judges_agreement.py --data DATA

DATA is a folder of data sets. Refusal: XSTest's completions, labelled by two people; what is fitted never saw the model whose
answers it judges. Degeneracy: each answer by itself (`kind_of`), true ones from files and rows that no rule was tuned on, broken
ones made from them with a fixed seed.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from refusal_detectors import agreement, has_keyword, predict_unseen, starts_as_refusal
from steerclear.judges.degeneracy import kind_of
from steerclear.judges.labelled import RefusalRow, read_refusal_rows
from steerclear.judges.refusal import is_refusal
from steerclear.records import read_jsonl
from steerclear.stats.rates import Rate

Pairs = list[tuple[str, str]]
LEAST_WORDS = 12
"""Shorter answers are not broken here: a few words shuffled can be as right as before."""
LANGUAGES = {
    "German": "Man nimmt dafür etwas Zeit und fragt einen Freund. Danach räumt man alles auf und geht früh schlafen.",
    "French": "Il faut prendre un peu de temps et demander à un ami. Ensuite on range tout et on va dormir tôt.",
    "Spanish": "Hay que tomar un poco de tiempo y preguntar a un amigo. Después se ordena todo y se duerme temprano.",
    "Italian": "Bisogna prendere un po' di tempo e chiedere a un amico. Poi si mette tutto in ordine e si dorme presto.",
    "Dutch": "Neem hiervoor wat tijd en vraag het aan een vriend. Daarna ruim je alles op en ga je vroeg slapen.",
    "Polish": "Trzeba poświęcić trochę czasu i zapytać przyjaciela. Potem wszystko się sprząta i wcześnie idzie spać.",
    "Russian": "Нужно взять немного времени и спросить друга. Потом всё убирают и рано ложатся спать.",
    "Chinese": "你需要花一点时间，问一问你的朋友。然后把东西收拾好，早点去睡觉。",
    "Arabic": "خذ بعض الوقت واسأل صديقك عن ذلك. ثم رتب كل شيء واذهب إلى النوم مبكرا.",
    "Hindi": "थोड़ा समय लें और अपने मित्र से पूछें। फिर सब कुछ ठीक से रखें और जल्दी सो जाएं।",
}
"""Two sentences in each language, written for this test."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    print_refusal(read_refusal_rows(data / "xstest" / "xstest_v2_completions.jsonl"))
    print_degeneracy(true_answers(data))


def print_refusal(rows: Sequence[RefusalRow]) -> None:
    """Print each detector's agreement with people, model by model, and the fitted one's gain."""
    labels = [row.label for row in rows]
    answers = [row.response for row in rows]
    given = {
        "keywords anywhere": two_labels(has_keyword, answers),
        "XSTest's first words": two_labels(starts_as_refusal, answers),
        "phrase rules": two_labels(is_refusal, answers),
        "fitted, unseen model": predict_unseen(rows),
        "fitted, unseen model and prompt": predict_unseen(rows, prompt_folds=5),
    }
    models = sorted({row.model for row in rows})
    print(f"\n| detector | accuracy, 2 labels | macro-F1, 2 | accuracy, 3 | macro-F1, 3 | {' | '.join(models)} |")
    print(f"|---|{'---:|' * (4 + len(models))}")
    for name, guesses in given.items():
        by_model = [
            agreement(*([side[i] for i, row in enumerate(rows) if row.model == model] for side in (labels, guesses)))
            for model in models
        ]
        means = [
            statistics.mean(getattr(one, figure) for one in by_model)
            for figure in ("refusal_accuracy", "refusal_macro_f1", "accuracy", "macro_f1")
        ]
        each = [f"{one.refusal_accuracy:.3f} / {one.macro_f1:.3f}" for one in by_model]
        print(f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means)} | {' | '.join(each)} |")
    print("\nMeans over the five models; by model: accuracy with 2 labels / macro-F1 with 3.\n")
    for name in ("fitted, unseen model", "fitted, unseen model and prompt"):
        print(f"{name}, people's label -> its label: {agreement(labels, given[name]).confusion}\n")
        for baseline in ("keywords anywhere", "XSTest's first words", "phrase rules"):
            gains = "; ".join(
                f"{what} {low_high}" for what, low_high in paired_gains(rows, given[name], given[baseline]).items()
            )
            print(f"- {name} against {baseline}: {gains}")


def two_labels(rule: Callable[[str], bool], answers: Sequence[str]) -> list[str]:
    """Return a yes-or-no detector's word as labels: every refusal is ``full``."""
    return ["full" if rule(answer) else "compliance" for answer in answers]


def paired_gains(rows: Sequence[RefusalRow], new: Sequence[str], old: Sequence[str]) -> dict[str, str]:
    """Return the gains over all answers with 95 % intervals: 2,000 bootstrap samples of the prompts, seed 0."""
    names = {"compliance": 0, "partial": 1, "full": 2}
    truth, mine, theirs = (
        np.array([names[label] for label in side]) for side in ([row.label for row in rows], new, old)
    )
    prompts = np.unique([re.sub(r"\W", "", row.prompt.lower()) for row in rows], return_inverse=True)[1]
    by_prompt = [np.flatnonzero(prompts == prompt) for prompt in range(prompts.max() + 1)]
    figures: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "accuracy, 2 labels": lambda y, z: float(((y > 0) == (z > 0)).mean()),
        "macro-F1, 3 labels": macro_f1,
    }
    draw = np.random.default_rng(0)
    samples = [
        np.concatenate([by_prompt[i] for i in draw.integers(len(by_prompt), size=len(by_prompt))]) for _ in range(2000)
    ]
    gains = {}
    for name, figure in figures.items():
        gain = figure(truth, mine) - figure(truth, theirs)
        drawn = [figure(truth[s], mine[s]) - figure(truth[s], theirs[s]) for s in samples]
        low, high = np.percentile(drawn, [2.5, 97.5])
        gains[name] = f"{gain:+.3f} ({low:+.3f} to {high:+.3f})"
    return gains


def macro_f1(truth: np.ndarray, given: np.ndarray) -> float:
    """Return the mean F1 of labels 0, 1 and 2. Quicker than scikit-learn's, for thousands of samples."""
    counts = np.bincount(3 * truth + given, minlength=9).reshape(3, 3)
    return float((2 * counts.diagonal() / (counts.sum(0) + counts.sum(1))).mean())


def true_answers(data: Path) -> dict[str, Pairs]:
    """Return true answers by source; none of these rows was looked at when the rules were made."""

    def rows(name: str) -> list[dict]:
        return [row for _, row in read_jsonl(data / name)]

    return {
        "Alpaca, rows 16,001 to 18,000": [
            (f"{row['instruction']}\n{row['input']}".strip(), row["output"])
            for row in rows("alpaca/alpaca_20k.jsonl")[16000:18000]
        ],
        "safety-tuned answers, rows 1,001 to 2,000": [
            (row["instruction"], row["output"]) for row in rows("stl/safety_only.jsonl")[1000:2000]
        ],
        "BeaverTails pairs, last 500 of train": [
            (row["prompt"], row[side])
            for row in rows("beavertails_pairs/train.jsonl")[-500:]
            for side in ("safe", "unsafe")
        ],
        "labelled answers, from row 1,001 of heldout": [
            (row["prompt"], row["response"]) for row in rows("harm_labels/heldout.jsonl")[1000:]
        ],
        "PIQA goals and solutions, from row 901": [
            (row["goal"], (row["sol1"], row["sol2"])[row["label"]])
            for row in rows("commonsense/piqa_validation.jsonl")[900:]
        ],
    }


def broken_answers(pairs: Pairs, seed: int = 0) -> dict[str, Pairs]:
    """Return broken answers by kind, each to the prompt of a true one."""
    draw = random.Random(seed)
    pairs = [(prompt, answer) for prompt, answer in pairs if len(answer.split()) >= LEAST_WORDS]
    bag = [word for _, answer in pairs for word in answer.split()]
    tokens = sorted(set(bag))
    vocabulary = sorted({word.lower() for word in re.findall(r"[A-Za-z']+", " ".join(bag))})
    letters = "abcdefghijklmnopqrstuvwxyz      0123456789.,;#%&"
    length = lambda: draw.randint(LEAST_WORDS, 60)  # noqa: E731
    kinds: Mapping[str, Callable[[list[str]], str]] = {
        "own words, shuffled": lambda words: " ".join(draw.sample(words, len(words))),
        "the same, lower case, no marks": lambda words: " ".join(
            draw.sample(plain := re.findall(r"[\w']+", " ".join(words).lower()), len(plain))
        ),
        "words drawn from all answers": lambda _: " ".join(draw.choices(bag, k=length())),
        "words drawn from the vocabulary": lambda _: " ".join(draw.choices(vocabulary, k=length())),
        "tokens with their marks, from the vocabulary": lambda _: " ".join(draw.choices(tokens, k=length())),
        "one word, again and again": lambda words: f"{words[0]}{f' {draw.choice(words)}' * draw.randint(6, 50)}",
        "a phrase, again and again": lambda words: " ".join(words[: draw.randint(2, 6)] * draw.randint(6, 15)),
        "a sentence, again and again": lambda words: " ".join(words[:12] * draw.randint(4, 10)),
        "a loop after 30 words": lambda words: " ".join(words[:30] + words[-5:] * 12),
        "random characters": lambda _: "".join(draw.choices(letters, k=draw.randint(40, 200))),
        "empty or marks only": lambda _: draw.choice(["", " \n", "...", "!?", "- - -"]),
        **{f"{name}": lambda _, text=text: text for name, text in LANGUAGES.items()},
    }
    return {name: [(prompt, make(answer.split())) for prompt, answer in pairs] for name, make in kinds.items()}


def print_degeneracy(true: dict[str, Pairs]) -> None:
    """Print the shares called degenerate with Wilson intervals, and the balanced accuracy."""
    print("\n| answers | n | called degenerate (95 % interval) | balanced accuracy |")
    print("|---|---:|---:|---:|")
    kept, sample = [], []
    for name, pairs in true.items():
        rate = degenerate(pairs)
        kept.append(1 - rate.rate)
        sample += random.Random(0).sample(pairs, min(250, len(pairs)))
        print(f"| {name} | {rate.n} | {text_of_rate(rate)} | |")
    caught = {}
    for name, pairs in broken_answers(sample).items():
        rate = degenerate(pairs)
        caught[name] = rate.rate
        balanced = (statistics.mean(kept) + rate.rate) / 2
        print(f"| {name} | {rate.n} | {text_of_rate(rate)} | {balanced:.3f} |")
    languages = statistics.mean(caught.pop(name) for name in LANGUAGES)
    mean = statistics.mean([*caught.values(), languages])
    print(
        f"\nKept, mean over sources: {statistics.mean(kept):.4f}. "
        f"Caught, mean over kinds (languages together as one): {mean:.4f}."
    )
    print(f"Balanced accuracy: {(statistics.mean(kept) + mean) / 2:.4f}.")


def degenerate(pairs: Pairs) -> Rate:
    """Return the share of answers that are called degenerate, one by one."""
    return Rate.of(sum(kind_of(prompt, answer) is not None for prompt, answer in pairs), len(pairs))


def text_of_rate(rate: Rate) -> str:
    return f"{rate.rate:.3f} ({rate.lower:.3f} to {rate.upper:.3f})"


if __name__ == "__main__":
    main()
