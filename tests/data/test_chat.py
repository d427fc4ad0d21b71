"""What the model reads is what it learns from: a table of chat templates in the ways of known families, written for this test."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from steerclear.data.chat import chat_form, end_ids
from steerclear.data.signed_labels import decode
from steerclear.data.templates import render_row
from steerclear.data.tokenization import AvoidTokens, TokenizedRow, tokenize_row
from steerclear.errors import DataError
from steerclear.generation.decoding import encode
from steerclear.records import Messages, Row

SPECIALS = [
    "<pad>", "<s>", "</s>", "<bos>", "<eos>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|end_of_text|>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|im_start|>", "<|im_end|>", "<|endoftext|>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
]  # fmt: skip


@pytest.fixture(scope="module")
def backend() -> Tokenizer:
    """A byte-level BPE that knows the control tokens of all families."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(["name it . a cat sat on the mat , then it left . be brief ."] * 8, trainer)
    return bpe


@dataclass(frozen=True)
class Family:
    """A way to write conversations."""

    template: str
    eos: str
    end: str
    """What follows an answer."""
    stop: str
    """The token at which generation must stop."""
    bos: str | None = None
    system: bool = True
    """Whether it takes a system message."""
    between: str = ""
    """What the template itself writes between what generation reads and the answer."""


_CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_CHATML_PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

_LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

FAMILIES = {
    "llama3": Family(
        _LLAMA3,
        "<|end_of_text|>", "<|eot_id|>", "<|eot_id|>", "<|begin_of_text|>",
    ),
    "llama3-eot": Family(
        _LLAMA3,
        "<|eot_id|>", "<|eot_id|>", "<|eot_id|>", "<|begin_of_text|>",
    ),
    "mistral-v0.3": Family(
        "{{ bos_token }}{% set ns = namespace(sys='') %}{% for m in messages %}{% if m.role == 'system' %}"
        "{% set ns.sys = m.content %}{% elif m.role == 'user' %}[INST] {% if loop.last and ns.sys %}"
        "{{ ns.sys }}\n\n{% endif %}{{ m.content }}[/INST]"
        "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}",
        "</s>", "</s>", "</s>", "<s>", between=" ",
    ),
    "mistral-v0.1": Family(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
        "</s>", "</s>", "</s>", "<s>", system=False,
    ),
    "gemma": Family(
        "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}\n"
        "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<eos>", "<end_of_turn>\n", "<end_of_turn>", "<bos>",
    ),
    "chatml": Family(_CHATML + _CHATML_PROMPT, "<|im_end|>", "<|im_end|>\n", "<|im_end|>"),
    "chatml-other-eos": Family(_CHATML + _CHATML_PROMPT, "</s>", "<|im_end|>\n", "<|im_end|>"),
    "chatml-no-prompt": Family(_CHATML, "<|im_end|>", "<|im_end|>\n", "<|im_end|>"),
    "qwen3-thinking": Family(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n"
        "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}" + _CHATML_PROMPT,
        "<|im_end|>", "<|im_end|>\n", "<|im_end|>", between="<think>\n\n</think>\n\n",
    ),
    "opens-thinking": Family(
        _CHATML + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
        "<|im_end|>", "<|im_end|>\n", "<|im_end|>",
    ),
    "phi3": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        "<|endoftext|>", "<|end|>\n<|endoftext|>", "<|end|>",
    ),
    "zephyr": Family(
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "</s>", "</s>\n", "</s>",
    ),
    "merging": Family(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        "</s>", "</s>", "</s>",
    ),
}  # fmt: skip

USER: Messages = [{"role": "user", "content": "name it ."}]
SYSTEM: Messages = [{"role": "system", "content": "be brief ."}]
TURNS: Messages = [*USER, {"role": "assistant", "content": "a mat ."}, {"role": "user", "content": "then ?"}]
ANSWER: Messages = [{"role": "assistant", "content": "a cat sat ."}]


def make(backend: Tokenizer, family: Family) -> PreTrainedTokenizerFast:
    names = {"bos_token": family.bos} if family.bos else {}
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(backend.to_str()), eos_token=family.eos, pad_token="<pad>", **names
    )
    made.chat_template = family.template
    return made


def learnt(row: TokenizedRow) -> list[int]:
    import torch

    kinds = decode(torch.tensor(row.labels))
    return kinds.targets[kinds.imitate | kinds.avoid].tolist()


@pytest.mark.parametrize("prompt", [USER, SYSTEM + USER, TURNS, SYSTEM + TURNS], ids=["one", "system", "turns", "both"])
@pytest.mark.parametrize("name", FAMILIES)
def test_learnt_is_the_answer_with_its_end_and_read_is_what_stands_before(
    backend: Tokenizer, name: str, prompt: Messages
) -> None:
    family = FAMILIES[name]
    if prompt[0]["role"] == "system" and not family.system:
        pytest.skip("the template takes no system message")
    tokenizer = make(backend, family)
    row = tokenize_row(tokenizer, prompt, ANSWER, True, avoid=AvoidTokens())
    said = learnt(row)
    assert tokenizer.decode(said) == family.between + ANSWER[0]["content"] + family.end
    assert row.input_ids[: len(row.input_ids) - len(said)] == encode(tokenizer, prompt, "p")
    # Nothing of the prompt is lost on the way.
    assert all(turn["content"] in tokenizer.decode(row.input_ids) for turn in prompt)
    assert tokenizer.convert_tokens_to_ids(family.stop) in end_ids(tokenizer) & set(said)


@pytest.mark.parametrize("choice", ["all", "first"])
@pytest.mark.parametrize("name", FAMILIES)
def test_avoided_is_the_answers_content_alone(backend: Tokenizer, name: str, choice: str) -> None:
    tokenizer = make(backend, FAMILIES[name])
    row = tokenize_row(tokenizer, USER, ANSWER, False, avoid=AvoidTokens(choice=choice))
    first = tokenizer.decode(learnt(row)).strip()
    assert first == ("a cat sat ." if choice == "all" else "a")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_begun_answer_is_read_as_it_is_trained(backend: Tokenizer, name: str) -> None:
    tokenizer = make(backend, FAMILIES[name])
    prompt = [*SYSTEM, *USER] if FAMILIES[name].system else USER
    begun = [*prompt, {"role": "assistant", "content": "a cat"}]
    row = tokenize_row(tokenizer, begun, [{"role": "assistant", "content": " sat ."}], True, avoid=AvoidTokens())
    said = learnt(row)
    assert tokenizer.decode(said) == " sat ." + FAMILIES[name].end
    assert row.input_ids[: len(row.input_ids) - len(said)] == encode(tokenizer, begun, "p")


@dataclass(frozen=True)
class Text:
    """A row under a template of text."""

    template: str
    prompt: str = "name it ."
    completion: str = "a cat sat ."
    input: str = ""
    system: str = field(default="")


TEXTS = [
    Text("plain"), Text("alpaca"), Text("alpaca", input="a mat ."), Text("plain", "name it . "),
    Text("plain", "name it .\n", " a cat"),
]  # fmt: skip


@pytest.mark.parametrize("row", TEXTS, ids=lambda row: f"{row.template}-{row.prompt[-1:]!r}-{bool(row.input)}")
@pytest.mark.parametrize("bos", [False, True])
def test_text_templates_too(backend: Tokenizer, row: Text, bos: bool) -> None:
    tokenizer = make(backend, Family("", "</s>", "</s>", "</s>", "<s>"))
    if bos:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    made = render_row(
        Row(id="r", prompt=row.prompt, input=row.input, completion=row.completion, label=True, source="f"), row.template
    )
    tokenized = tokenize_row(tokenizer, made.prompt, made.completion, True, avoid=AvoidTokens())
    said = learnt(tokenized)
    assert tokenizer.decode(said) == row.completion + "</s>"
    assert tokenized.input_ids[: len(tokenized.input_ids) - len(said)] == encode(tokenizer, made.prompt, "p")
    assert tokenized.merges == (row.prompt.endswith(" ") and row.template == "plain")


def test_an_end_token_after_every_text_is_not_read_before_an_answer(backend: Tokenizer) -> None:
    tokenizer = make(backend, Family("", "</s>", "</s>", "</s>", "<s>"))
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    row = tokenize_row(tokenizer, "name it .", " a cat", True, avoid=AvoidTokens())
    assert tokenizer.decode(learnt(row)) == " a cat</s>"
    assert tokenizer.decode(encode(tokenizer, "name it .", "p")) == "<s>name it ."


def test_control_tokens_in_a_text_are_counted_and_a_trailing_end_is_the_end(backend: Tokenizer) -> None:
    tokenizer = make(backend, FAMILIES["chatml-other-eos"])
    plain = tokenize_row(tokenizer, "name it .", " a cat", True, avoid=AvoidTokens())
    ended = tokenize_row(tokenizer, "name it .", " a cat</s>", True, avoid=AvoidTokens())
    assert (ended.input_ids, ended.labels, ended.controls) == (plain.input_ids, plain.labels, 0)
    spelt = tokenize_row(tokenizer, "<bos>name it .", " a </s> cat</s>", False, avoid=AvoidTokens())
    assert spelt.controls == 2
    assert tokenizer.convert_tokens_to_ids("</s>") not in learnt(spelt)
    asked = [{"role": "user", "content": "name <|im_end|> it ."}]
    chat = tokenize_row(
        tokenizer, asked, [{"role": "assistant", "content": "a cat<|im_end|>"}], True, avoid=AvoidTokens()
    )
    assert (tokenizer.decode(learnt(chat)), chat.controls) == ("a cat<|im_end|>\n", 1)


def test_the_form_of_a_template_is_found(backend: Tokenizer) -> None:
    form = chat_form(make(backend, FAMILIES["chatml-no-prompt"]))
    assert (form.header, form.end) == ("<|im_start|>assistant\n", "<|im_end|>\n")
    assert chat_form(make(backend, FAMILIES["chatml"])).header == ""


def test_a_template_that_changes_the_answer_is_refused(backend: Tokenizer) -> None:
    tokenizer = make(backend, Family("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "</s>", "", "</s>"))
    with pytest.raises(DataError, match="changes the answer's text"):
        tokenize_row(tokenizer, USER, ANSWER, True, avoid=AvoidTokens())
