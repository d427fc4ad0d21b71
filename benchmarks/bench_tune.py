"""Finding λ: the search with pruning against the paper's grid, on the same recipe and within the same limits.

    python benchmarks/bench_tune.py MODEL DATA [--recipe recipes/tune.yaml] [--seeds 3] [--trials 12] [--output runs/bench-tune]
    python benchmarks/bench_tune.py --smoke

The grid has the recipe's ``points`` and no pruning; the search has the recipe's own method, pruning and limits, under several
seeds of its draws. Told is how many trials and seconds each took until its best was as safe as the grid's best within the
limits, and what it found in the end. Trials are kept in the output folder: killed, the same command goes on. Seconds are those
of the processes that finished the trials, one trial at a time.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

from datasets import disable_progress_bars
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from measure import Recorder, benchmark_parser, parse_and_set_threads
from steerclear.config import Tree, build, load_tree
from steerclear.data import examples_folder
from steerclear.experiments.trials import PRUNED, Outcome, choose
from steerclear.experiments.tune import tune
from steerclear.recipe.tune import TuneLimits, TuneRecipe
from steerclear.records import read_jsonl, write_text

ROOT = Path(__file__).resolve().parents[1]


def until_as_good(outcomes: Sequence[Outcome], limits: TuneLimits, target: Outcome | None) -> tuple[int, float] | None:
    """Return after how many trials and seconds the best within the limits was no more harmful than a target; None: never."""
    if target is None or target.figures is None:
        return None
    for count in range(1, len(outcomes) + 1):
        best, _ = choose(outcomes[:count], limits)
        if best is not None and best.figures is not None and best.figures.harmful.k <= target.figures.harmful.k:
            return count, seconds(outcomes[:count])
    return None


def seconds(outcomes: Sequence[Outcome]) -> float:
    """Return what the trials took together."""
    return sum(outcome.seconds or 0.0 for outcome in outcomes)


def measure(recorder: Recorder, tree: Tree, output: Path, seeds: int, trials: int | None) -> None:
    """Record the grid, then the search under each seed."""
    # One file for all searches, and not one of another data set that lies where the recipe says.
    tree["recipe"]["evaluation"]["judge"]["classifier"] = str(output / "judge.skops")
    grid = build(TuneRecipe, tree | {"method": "grid", "trials": None, "probe": None, "output": str(output / "grid")})
    searches = {
        f"{tree.get('method', 'tpe')}-seed-{seed}": build(
            TuneRecipe,
            tree | {"trials": trials or tree.get("trials"), "seed": seed, "output": str(output / f"seed-{seed}")},
        )
        for seed in range(seeds)
    }
    target: Outcome | None = None
    for name, search in {"grid": grid, **searches}.items():
        with redirect_stdout(sys.stderr):  # what the trainer prints; standard output is for the rows
            tuned = tune(search, lambda line, name=name: print(f"{name}: {line}", flush=True))  # type: ignore[misc]
        assert tuned is not None
        if name == "grid":
            target = tuned.best
        reached = until_as_good(tuned.outcomes, search.limits, target)
        shown = tuned.best or tuned.nearest
        recorder.add(
            "tune",
            method=name,
            trials=len(tuned.outcomes),
            pruned=sum(outcome.state == PRUNED for outcome in tuned.outcomes),
            seconds=seconds(tuned.outcomes),
            trials_until_as_good=reached and reached[0],
            seconds_until_as_good=reached and reached[1],
            within_limits=tuned.best is not None,
            values=shown and shown.values,
            figures=shown and shown.figures and asdict(shown.figures),
            limits=asdict(search.limits),
        )


def smoke_tree(folder: Path) -> Tree:
    """Return a search on a random model of 0.05M parameters and the package's example rows, two trials a method."""
    examples = examples_folder()
    texts = [
        text for file in examples.glob("*.jsonl") for _, row in read_jsonl(file) for text in map(str, row.values())
    ]
    words = {
        word: number for number, word in enumerate(["<unk>", "</s>", *sorted({w for t in texts for w in t.split()})])
    }
    tokens = Tokenizer(models.WordLevel(words, "<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokens, unk_token="<unk>", eos_token="</s>", pad_token="<unk>"
    ).save_pretrained(folder / "base")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes, eos_token_id=1, pad_token_id=0)).save_pretrained(
        folder / "base"
    )
    unsafe = [row for _, row in read_jsonl(examples / "unsafe.jsonl")]
    labelled = [*unsafe, *({**row, "response": "I will not help with that.", "is_safe": True} for row in unsafe)]
    write_text(folder / "labelled.jsonl", "".join(json.dumps(row) + "\n" for row in labelled))
    tree = load_tree([str(ROOT / "recipes" / "tune.yaml"), "--base", str(folder / "base"), "--data", str(folder)])
    recipe = tree["recipe"]
    recipe["data"] = {name: str(examples / f"{name}.jsonl") for name in ("benign", "unsafe")} | {"heldout_count": 4}
    recipe["training"] |= {"max_steps": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    recipe["evaluation"]["judge"]["fit_on"] = str(folder / "labelled.jsonl")
    recipe["evaluation"]["generation"]["max_new_tokens"] = 4
    prompts = {"name": "examples", "path": str(examples / "prompts.jsonl"), "by": "label", "benign_groups": ["safe"]}
    recipe["evaluation"]["suites"] = [prompts]
    tree["search"]["training.penalty_weight"]["points"] = 2
    tree["limits"] = {"over_refusal": 1, "degenerate": 1, "benign_loss": None}
    tree["probe"] = {"every_steps": 1, "prompts": 4}
    return tree


def main() -> None:
    """Measure and record."""
    parser = benchmark_parser(__doc__, smoke="of two trials on a tiny model")
    parser.add_argument("model", nargs="?", help="folder of a base model")
    parser.add_argument("data", nargs="?", help="folder of the recipe's data")
    parser.add_argument("--recipe", default=str(ROOT / "recipes" / "tune.yaml"))
    parser.add_argument("--seeds", type=int, default=3, help="searches, each with another seed of its draws")
    parser.add_argument("--trials", type=int, help="trials of each search (default: the recipe's)")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-tune"))
    arguments = parse_and_set_threads(parser)
    disable_progress_bars()
    recorder = Recorder("tune", save=not arguments.smoke)
    if arguments.smoke:
        with tempfile.TemporaryDirectory() as folder:
            measure(recorder, smoke_tree(Path(folder)), Path(folder) / "out", 1, 2)
    elif arguments.model and arguments.data:
        tree = load_tree([arguments.recipe, "--base", arguments.model, "--data", arguments.data])
        measure(recorder, tree, arguments.output, arguments.seeds, arguments.trials)
    else:
        parser.error("give MODEL and DATA, or --smoke")
    recorder.close()


if __name__ == "__main__":
    main()
