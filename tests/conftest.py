"""Fixtures shared by all tests. Nothing here needs a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from steerclear import cli
from steerclear.data import examples_folder

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


def _shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"needs the optional folder ../shared/{name}, which is not on this machine")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; the test skips where it is absent."""
    return _shared("data")


@pytest.fixture(scope="session")
def tiny_base() -> Path:
    """The folder of the small pre-trained base model; the test skips where it is absent."""
    return _shared("models/tiny-base")


ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

SMALL = {
    "training.per_device_train_batch_size": 4,
    "training.gradient_accumulation_steps": 1,
    "training.num_train_epochs": 2,
    "training.logging_steps": 1,
    "training.disable_tqdm": True,
    "data.heldout_count": 4,
    "data.template": "plain",
    "evaluation.generation.max_new_tokens": 4,
}
"""Settings that make a run on the example rows take seconds."""

SAMPLE_TEXT = [
    "how do i bake a loaf of bread ? mix the flour and the water , then wait .",
    "how do i sneak into a cinema ? walk in backwards while the others walk out .",
    "the quick brown fox jumps over the lazy dog and reads a book about bread .",
    "write a short note to a friend . dear friend , the bread is done . goodbye .",
]

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] | trim }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer made here, with <s>, </s>, <pad> and a plain chat template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SAMPLE_TEXT * 4, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    made.chat_template = CHAT_TEMPLATE
    return made


@pytest.fixture(scope="session")
def make_llama(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LlamaForCausalLM]:
    """A function that makes a two-layer random Llama: same seed, same weights."""

    def make(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
        torch.manual_seed(seed)
        settings = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "initializer_range": 0.3,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        }
        return LlamaForCausalLM(LlamaConfig(**(settings | changes)))

    return make


@pytest.fixture
def base(tmp_path: Path, make_llama: Callable[..., LlamaForCausalLM], tokenizer: PreTrainedTokenizerFast) -> Path:
    """A folder with a two-layer random model and its tokenizer."""
    folder = tmp_path / "base"
    make_llama().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def make_adapter(tmp_path: Path, make_llama: Callable[..., LlamaForCausalLM]) -> Callable[..., Path]:
    """A function that writes an adapter with random weights for a tiny Llama of a given shape."""

    def make(**shape: Any) -> Path:
        config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
        get_peft_model(make_llama(**shape), config).save_pretrained(tmp_path / "adapter")
        return tmp_path / "adapter"

    return make


@pytest.fixture
def settings(tmp_path: Path, base: Path) -> dict[str, Any]:
    """Overrides of a small run on the example rows."""
    examples = examples_folder()
    return SMALL | {
        "output": str(tmp_path / "run"),
        "model.path": str(base),
        "data.benign": str(examples / "benign.jsonl"),
        "data.unsafe": str(examples / "unsafe.jsonl"),
    }


@pytest.fixture
def suite() -> str:
    """The example prompts as a suite, as a YAML value."""
    path = examples_folder() / "prompts.jsonl"
    return json.dumps([{"name": "own", "path": str(path), "by": "label", "benign_groups": ["safe"]}])


@pytest.fixture(scope="session")
def judge_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled rows that a classifier can learn."""
    file = tmp_path_factory.mktemp("judge") / "rows.jsonl"
    unsafe, safe = "sneak in and take it without asking", "i cannot help with that"
    rows = [
        {"prompt": f"how do i do thing {i} ?", "response": f"{text} , number {i} .", "is_safe": text is safe}
        for i in range(30)
        for text in (unsafe, safe)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _arguments(settings: dict[str, Any]) -> list[str]:
    return [part for key, value in settings.items() for part in (f"--{key}", str(value))]


@pytest.fixture
def as_arguments() -> Callable[[dict[str, Any]], list[str]]:
    """A function that turns settings into command-line arguments."""
    return _arguments


@pytest.fixture
def start() -> Callable[..., subprocess.Popen[str]]:
    """A function that starts the command line in a process of its own."""

    def run(*words: str, **settings: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", "from steerclear.cli import main; main()", *words, *_arguments(settings)]
        # As many threads as here: another number sums in another order, and weights would differ in their last bits.
        environment = ENVIRONMENT | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    return run


@pytest.fixture
def steerclear(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_arguments: Callable[[dict[str, Any]], list[str]],
) -> Callable[..., tuple[int, str, str]]:
    """A function that runs a command and returns its exit code, standard output and standard error."""

    def run(*words: str, **settings: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["steerclear", *words, *as_arguments(settings)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return int(left.value.code or 0), printed.out, printed.err

    return run
