"""The guards end to end: rendered, decoded and read, on small models of each family's architecture made by hand.

Each model has one layer. Attention weighs all tokens alike and finds the word "evil" in the question; the head holds what token
follows what, and lets "evil" choose the harmful verdict where two could follow. So a real model says a known verdict.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    Llama4Config,
    Llama4ForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from steerclear.errors import ConfigError, ModelError
from steerclear.judges.base import HarmScore, Unscored
from steerclear.judges.guard_families import FAMILIES
from steerclear.judges.guards import GuardJudge
from steerclear.judges.options import GuardOptions

WORDS = pre_tokenizers.Split(
    Regex(r"</?\w+>|<\|\w+\|>|\n*[A-Za-z]+( [a-z]+)?:|\n\n| ?[\w&'-]+|\s|[^\w\s]"), behavior="isolated"
)
SPECIALS = ["<pad>", "<unk>", "<s>", "</s>", "<|assistant|>", "<signal>"]
PROMPTS = ["how do i bake bread ?", "how do i wait ?", "write a note", "write a short note to a friend ."]
RESPONSES = ["mix the flour and the water", "evil evil evil", "dear friend , wait", "an evil and evil and evil note"]
FLAGGED = [False, True, False, True]

TURNS = "{% for m in messages %}{{ m['role'] }} says {{ m['content'] | trim }}\n\n{% endfor %}"
PARTS = (
    "{% for m in messages %}{% for c in m['content'] %}{{ m['role'] }} says {{ c['text'] }}\n\n{% endfor %}{% endfor %}"
)
ASSISTANT = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
LLAMA_GUARD = "Give a comma-separated list of violated categories.\n\n"


@dataclass(frozen=True)
class Script:
    """A model's architecture and what it says."""

    kind: Any
    config: Callable[..., Any]
    template: str | None
    before: list[str]
    """What is said up to the verdict word, token by token."""
    harmless: list[str]
    harmful: list[str]


def llama4_config(**text: Any) -> Llama4Config:
    vision = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32}
    vision |= {"vision_output_dim": 8, "projector_input_dim": 8, "projector_output_dim": 8, "image_size": 28}
    text |= {"moe_layers": [], "intermediate_size_mlp": 8, "for_llm_compressor": False}
    return Llama4Config(text_config=text, vision_config=vision, tie_word_embeddings=False)


def gemma_config(**settings: Any) -> Gemma2Config:
    return Gemma2Config(**settings, final_logit_softcapping=None, attn_logit_softcapping=None)


SCRIPTS = {
    "llama-guard": Script(
        LlamaForCausalLM,
        LlamaConfig,
        LLAMA_GUARD + TURNS + ASSISTANT,
        ["\n\n"],
        ["safe"],
        ["unsafe", "\n", "S1", ",", "S9"],
    ),
    "llama-guard-4": Script(
        Llama4ForConditionalGeneration,
        llama4_config,
        LLAMA_GUARD + PARTS + ASSISTANT,
        ["\n\n"],
        ["safe"],
        ["unsafe", "\n", "S9"],
    ),
    "qwen3guard": Script(
        Qwen3ForCausalLM,
        Qwen3Config,
        "Safe, Controversial or Unsafe?\n\n" + TURNS + ASSISTANT,
        ["Safety:"],
        [" Safe", "\nCategories:", " None", "\nRefusal:", " Yes"],
        [" Unsafe", "\n\nCategories:", " Violent", "\n\nRefusal:", " No"],
    ),
    "wildguard": Script(
        MistralForCausalLM,
        MistralConfig,
        None,
        ["Harmful request:", " Yes", "\nResponse refusal:", " No", "\nHarmful response:"],
        [" no"],
        [" yes"],
    ),
    "shieldgemma": Script(
        Gemma2ForCausalLM, gemma_config, TURNS + "Is it against {{ guideline }}?" + ASSISTANT, [], ["No"], ["Yes"]
    ),
    "granite-guardian": Script(
        GraniteForCausalLM,
        GraniteConfig,
        TURNS + "{{ guardian_config['criteria_id'] }}{% if not think %}!{% endif %}" + ASSISTANT,
        ["<think>", "</think>", "\n", "<score>"],
        [" no", " ", "</score>"],
        [" yes", " ", "</score>"],
    ),
}


def make_tokenizer(script: Script) -> PreTrainedTokenizerFast:
    texts = [
        *PROMPTS,
        *RESPONSES,
        *(f"says {text}" for text in (*PROMPTS, *RESPONSES)),
        "user assistant",
        script.template or "",
    ]
    texts += [str(FAMILIES["wildguard"].text), "harm violence", *FAMILIES["shieldgemma"].policies.values()]
    found = [word for text in texts for word, _ in WORDS.pre_tokenize_str(text)]
    vocabulary = dict.fromkeys([*SPECIALS, *script.before, *script.harmless, *script.harmful, *found])
    size = len(vocabulary) + len(vocabulary) % 2
    vocabulary |= dict.fromkeys(f"<filler{i}>" for i in range(size - len(vocabulary)))
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="<unk>"))
    words.pre_tokenizer, words.decoder = WORDS, decoders.Fuse()
    words.add_special_tokens(SPECIALS)
    words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    made.chat_template = script.template
    return made


def make_model(script: Script, tokenizer: PreTrainedTokenizerFast) -> Any:
    size, ids = len(tokenizer), tokenizer.get_vocab()
    model = script.kind(
        script.config(
            vocab_size=size,
            hidden_size=size,
            head_dim=size,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
            max_position_embeddings=256,
            tie_word_embeddings=False,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
        )
    )
    for name, weight in model.named_parameters():
        if name.endswith(("q_proj.weight", "k_proj.weight", "down_proj.weight")) and "vision" not in name:
            weight.data.zero_()
        elif name.endswith(("embed_tokens.weight", "v_proj.weight")) and "vision" not in name:
            weight.data.copy_(torch.eye(size))
        elif name.endswith("o_proj.weight") and "vision" not in name:
            weight.data.zero_()
            for spelling in ("evil", " evil"):
                weight.data[ids["<signal>"], ids[spelling]] = 4 / size**0.5
        elif "gemma" in model.config.model_type and name.endswith("post_attention_layernorm.weight"):
            weight.data.fill_(0.3 - 1)  # it scales what it is given to length 1, and its weight is 1 more
    head = model.get_output_embeddings().weight.data.zero_()
    last = ids[script.before[-1] if script.before else start_of(script)]
    for first, *rest in ([start_of(script), *script.before], [*script.harmless, "</s>"], [*script.harmful, "</s>"]):
        for word in rest:
            head[ids[word], ids[first]] = 2
            first = word
    head[ids[script.harmless[0]], last] = 2
    head[ids[script.harmful[0]], last] = 1.94
    head[ids[script.harmful[0]], ids["<signal>"]] = 2
    return model.eval()


def start_of(script: Script) -> str:
    return "<|assistant|>" if script.template else "\n"


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Family -> folder with its small model, made once."""

    @cache
    def make(family: str) -> str:
        folder = tmp_path_factory.mktemp("guards") / family
        tokenizer = make_tokenizer(SCRIPTS[family])
        make_model(SCRIPTS[family], tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make


@pytest.fixture(scope="module")
def judge_of(folder_of: Callable[[str], str]) -> Callable[[str], GuardJudge]:
    """Family -> the judge of its small model with the default options, opened once."""
    return cache(lambda family: GuardJudge.load(options(folder_of(family), batch_size=3)))


def options(folder: str, **changes: Any) -> GuardOptions:
    return GuardOptions(**({"model": folder, "device": "cpu"} | changes))


@pytest.mark.parametrize("family", SCRIPTS)
def test_answers_are_judged_end_to_end(family: str, judge_of: Callable[[str], GuardJudge]) -> None:
    script = SCRIPTS[family]
    judge = judge_of(family)
    scores = judge.score(PROMPTS, RESPONSES)
    assert [s.flagged for s in scores] == FLAGGED
    assert [s.score > 0.5 for s in scores] == FLAGGED
    assert all(0 < s.score < 1 for s in scores)
    if family.startswith("llama-guard"):
        harmful = {"S1": 1.0, "S9": 1.0} if family == "llama-guard" else {"S9": 1.0}
        assert [dict(s.categories) for s in scores] == [harmful if flagged else {} for flagged in FLAGGED]
    if family == "qwen3guard":
        assert [dict(s.categories) for s in scores] == [{"Violent": 1.0} if flagged else {} for flagged in FLAGGED]
        assert [s.refused for s in scores] == [not flagged for flagged in FLAGGED]
    if family == "shieldgemma":
        assert all(list(s.categories) == ["dangerous", "harassment", "hate", "sexual"] for s in scores)
        assert all(max(s.categories.values()) == s.score for s in scores)
    if family == "granite-guardian":
        assert [dict(s.categories) for s in scores] == [{"harm": s.score} for s in scores]
    assert type(judge._model) is script.kind


def question(family: str, tokenizer: PreTrainedTokenizerFast, prompt: str, response: str) -> list[int]:
    """What the guard should be asked, written out here."""
    start = {
        "llama-guard": LLAMA_GUARD,
        "llama-guard-4": LLAMA_GUARD,
        "qwen3guard": "Safe, Controversial or Unsafe?\n\n",
    }
    turns = f"user says {prompt}\n\nassistant says {response}\n\n"
    end = {"granite-guardian": "harm!"}.get(family, "") + "<|assistant|>"
    if family == "wildguard":
        text = "<s>" + str(FAMILIES[family].text).replace("{prompt}", prompt).replace("{response}", response)
    else:
        text = start.get(family, "") + turns + end
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("family", [name for name in SCRIPTS if name != "shieldgemma"])
def test_the_score_is_the_probability_where_the_verdict_begins(
    family: str, judge_of: Callable[[str], GuardJudge]
) -> None:
    script = SCRIPTS[family]
    judge = judge_of(family)
    tokenizer = judge._tokenizer
    ids = tokenizer.get_vocab()
    safe, unsafe = ids[script.harmless[0]], ids[script.harmful[0]]
    for prompt, response, score in zip(PROMPTS, RESPONSES, judge.score(PROMPTS, RESPONSES), strict=True):
        asked = question(family, tokenizer, prompt, response)
        assert judge._question.encode(prompt, response, next(iter(judge._policies.values()))) == asked
        asked += [ids[word] for word in script.before]
        with torch.no_grad():
            logits = judge._model(input_ids=torch.tensor([asked])).logits[0, -1].double()
        assert score.score == pytest.approx((1 / (1 + (logits[safe] - logits[unsafe]).exp())).item(), abs=1e-4)


@pytest.mark.parametrize("templated", [True, False])
def test_shieldgemma_weighs_yes_against_no(templated: bool, folder_of: Callable[[str], str], tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("shieldgemma"), tmp_path / "shieldgemma")
    if not templated:
        (folder / "chat_template.jinja").unlink()
    judge = GuardJudge.load(options(str(folder), policies=["hate"]))
    policy, ids = FAMILIES["shieldgemma"].policies["hate"], judge._tokenizer.get_vocab()
    [score] = judge.score(PROMPTS[:1], RESPONSES[:1])
    if templated:
        text = f"user says {PROMPTS[0]}\n\nassistant says {RESPONSES[0]}\n\nIs it against {policy}?<|assistant|>"
    else:
        text = "<s>" + str(FAMILIES["shieldgemma"].text).format(prompt=PROMPTS[0], response=RESPONSES[0], policy=policy)
    asked = judge._tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = judge._model(input_ids=torch.tensor([asked])).logits[0, -1].double()
    expected = (1 / (1 + (logits[ids["No"]] - logits[ids["Yes"]]).exp())).item()
    assert score.score == pytest.approx(expected, abs=1e-4)
    assert dict(score.categories) == {"hate": score.score}
    for threshold, flagged in ((expected - 1e-3, True), (expected + 1e-3, False)):
        near = GuardJudge.load(options(str(folder), policies=["hate"], threshold=threshold))
        assert near.score(PROMPTS[:1], RESPONSES[:1])[0].flagged == flagged


@pytest.mark.parametrize("family", SCRIPTS)
def test_batched_equals_one_by_one(family: str, judge_of: Callable[[str], GuardJudge]) -> None:
    judge = judge_of(family)
    together = judge.score(PROMPTS, RESPONSES)
    alone = [
        score for pair in zip(PROMPTS, RESPONSES, strict=True) for score in judge.score(*([text] for text in pair))
    ]
    assert [s.score for s in together] == pytest.approx([s.score for s in alone], abs=1e-4)
    assert [(s.flagged, s.refused, [*s.categories]) for s in together] == [
        (s.flagged, s.refused, [*s.categories]) for s in alone
    ]


@pytest.mark.parametrize("family", SCRIPTS)
def test_any_output_gives_a_score_or_a_reason(family: str, judge_of: Callable[[str], GuardJudge]) -> None:
    judge, script = judge_of(family), SCRIPTS[family]
    words = [judge._tokenizer.get_vocab()[word] for word in (*script.before, *script.harmless, *script.harmful, "</s>")]
    token = st.sampled_from(words) | st.integers(0, len(judge._tokenizer) - 1)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(token, min_size=1, max_size=12))
    def check(tokens: list[int]) -> None:
        score = judge._read(tokens, [0.25] * len(tokens))
        if isinstance(score, HarmScore):
            assert score.score in (0.0, 0.25, 0.5, 1.0)
        else:
            assert len(score.reason) < 120

    check()


def changed(script: Script, **changes: Any) -> tuple[Any, PreTrainedTokenizerFast]:
    script = replace(script, **changes)
    tokenizer = make_tokenizer(script)
    return make_model(script, tokenizer), tokenizer


@pytest.mark.parametrize("flag", [False, True])
def test_controversial_is_flagged_on_demand(flag: bool) -> None:
    said = [" Controversial", "\n\nCategories:", " Violent", "\n\nRefusal:", " No"]
    guard = changed(SCRIPTS["qwen3guard"], harmful=said)
    judge = GuardJudge(*guard, options("qwen3guard", flag_controversial=flag))
    safe, controversial = judge.score(PROMPTS[:2], RESPONSES[:2])
    assert (safe.flagged, controversial.flagged) == (False, flag)
    assert safe.score < 0.25 < controversial.score <= 0.5


def test_an_unreadable_verdict_is_unscored_with_its_start() -> None:
    guard = changed(SCRIPTS["llama-guard"], harmful=["how", " wait" * 30], before=["\n\n"])
    judge = GuardJudge(*guard, options("llama-guard"))
    safe, broken = judge.score(PROMPTS[:2], RESPONSES[:2])
    assert isinstance(safe, HarmScore)
    assert broken == Unscored("no verdict in the judge's output: " + repr(("how" + " wait" * 30)[:60]))


def test_a_question_longer_than_the_context_is_unscored_and_not_cut(judge_of: Callable[[str], GuardJudge]) -> None:
    judge = judge_of("llama-guard")
    scores = judge.score(["wait ?", "wait ?"], ["evil", "wait " * 300])
    assert scores[0].flagged
    assert isinstance(scores[1], Unscored)
    assert scores[1].reason.startswith("too long for the judge: ")
    assert scores[1].reason.endswith("tokens, it takes 192")


def test_one_policy_that_cannot_be_asked_leaves_the_answer_unscored() -> None:
    model, tokenizer = changed(SCRIPTS["shieldgemma"])
    model.config.max_position_embeddings = 90  # the policy on hate is longer than the others
    scores = GuardJudge(model, tokenizer, options("shieldgemma")).score(PROMPTS[:1], RESPONSES[:1])
    assert isinstance(scores[0], Unscored)
    narrow = GuardJudge(model, tokenizer, options("shieldgemma", policies=["dangerous"]))
    assert isinstance(narrow.score(PROMPTS[:1], RESPONSES[:1])[0], HarmScore)


def test_the_worst_policy_counts(judge_of: Callable[[str], GuardJudge]) -> None:
    scores = [HarmScore(score=score, flagged=score > 0.5) for score in (0.1, 0.9, 0.2, 0.3)]
    by_policy = {"dangerous": 0.1, "harassment": 0.9, "hate": 0.2, "sexual": 0.3}
    assert judge_of("shieldgemma")._worst(scores) == HarmScore(score=0.9, flagged=True, categories=by_policy)


def test_a_word_in_an_unknown_spelling_has_its_grade_for_a_score() -> None:
    judge = GuardJudge(*changed(SCRIPTS["llama-guard"], harmless=["SAFE"]), options("llama-guard"))
    assert judge.score(PROMPTS[:2], RESPONSES[:2]) == [
        HarmScore(score=0.0, flagged=False),
        HarmScore(score=1.0, flagged=True, categories={"S1": 1.0, "S9": 1.0}),
    ]


def test_a_broken_model_leaves_answers_unscored() -> None:
    model, tokenizer = changed(SCRIPTS["shieldgemma"])
    model.get_output_embeddings().weight.data.fill_(float("nan"))
    judge = GuardJudge(model, tokenizer, options("shieldgemma", policies=["hate", "sexual"]))
    assert judge.score(PROMPTS[:1], RESPONSES[:1]) == [Unscored("judge's score is nan")]


def test_no_answers(judge_of: Callable[[str], GuardJudge]) -> None:
    assert judge_of("llama-guard").score([], []) == []


def test_the_name_follows_what_changes_scores(folder_of: Callable[[str], str], tmp_path: Path) -> None:
    base = options(folder_of("qwen3guard"))
    name = GuardJudge.load(base).name
    assert name.startswith("qwen3guard:qwen3guard@")
    assert GuardJudge.load(replace(base, batch_size=1)).name == name
    assert GuardJudge.load(replace(base, flag_controversial=True)).name != name
    moved = shutil.copytree(base.model, tmp_path / "qwen3guard")
    assert GuardJudge.load(options(str(moved))).name == name
    (moved / "chat_template.jinja").write_text("Controversial? " + str(SCRIPTS["qwen3guard"].template))
    other_template = GuardJudge.load(options(str(moved))).name
    weights = load_file(moved / "model.safetensors")
    weights["lm_head.weight"] *= 2
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    assert len({name, other_template, GuardJudge.load(options(str(moved))).name}) == 3


def test_the_models_own_sampling_is_not_used(judge_of: Callable[[str], GuardJudge]) -> None:
    judge = judge_of("llama-guard")
    assert judge._model.generation_config.do_sample is False
    assert judge._model.generation_config.eos_token_id == [3]


def test_an_unknown_family_is_asked_for() -> None:
    guard = changed(SCRIPTS["llama-guard"], template=TURNS + ASSISTANT)
    with pytest.raises(ConfigError, match=r"family: not known for 'runs/judge'.* Name one of llama-guard, qwen3guard"):
        GuardJudge(*guard, options("runs/judge"))
    judge = GuardJudge(*guard, options("runs/judge", family="llama-guard"))
    assert [s.flagged for s in judge.score(PROMPTS, RESPONSES)] == FLAGGED


@pytest.mark.parametrize(
    ("family", "template", "message"),
    [
        ("llama-guard", None, "has no chat template"),
        ("llama-guard", "{{ messages[0]['content'] }}", "does not show both the prompt and the answer"),
        ("llama-guard", "{{ raise_exception('no roles') }}", "does not show both"),
    ],
)
def test_a_template_that_hides_the_answer_is_refused(family: str, template: str | None, message: str) -> None:
    model, tokenizer = changed(SCRIPTS[family])
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=message):
        GuardJudge(model, tokenizer, options(family))


@pytest.mark.parametrize(
    ("family", "policies", "message"),
    [
        ("qwen3guard", ["harm"], "qwen3guard has one policy of its own"),
        ("granite-guardian", ["harms"], "policies: got 'harms', allowed: harm, .* Did you mean 'harm'"),
    ],
)
def test_a_wrong_policy_is_named(
    family: str, policies: list[str], message: str, folder_of: Callable[[str], str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        GuardJudge.load(options(folder_of(family), policies=policies))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        GuardJudge.load(options(str(tmp_path)))
