"""Which tokens are imitated and which avoided, on text, on a chat, with thinking tags, and after cutting."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.data.signed_labels import IGNORED, is_avoided
from steerclear.data.tokenization import AvoidTokens, tokenize_row
from steerclear.errors import ConfigError, DataError

THINKING_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] | trim }}</s>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""Adds an empty thinking block to the last answer, as Qwen3's template does."""


def texts(tokenizer: Any, row: Any, wanted: str) -> list[str]:
    """The texts of the tokens that are ``imitate``d, ``avoid``ed or ``ignored``."""
    kind = {True: "avoid", False: "imitate"}
    return [
        tokenizer.decode([i])
        for i, y in zip(row.input_ids, row.labels, strict=True)
        if ("ignored" if y == IGNORED else kind[is_avoided(y)]) == wanted
    ]


def test_text_is_imitated_with_its_end_token_and_without_the_prompt(tokenizer: Any) -> None:
    row = tokenize_row(tokenizer, "how do i bake bread ?", " mix the flour .", True, avoid=AvoidTokens())
    assert texts(tokenizer, row, "imitate") == [" mix", " the", " flour", " .", "</s>"]
    assert row.input_ids[0] == tokenizer.bos_token_id
    # The context is what generation will see.
    prompt = tokenizer("how do i bake bread ?")["input_ids"]
    assert row.input_ids[: len(prompt)] == prompt


@pytest.mark.parametrize(
    ("avoid", "expected"),
    [
        (AvoidTokens(), [" mix", " the", " flour", " ."]),
        (AvoidTokens(eos=True), [" mix", " the", " flour", " .", "</s>"]),
        (AvoidTokens(choice="first"), [" mix"]),
        (AvoidTokens(choice="first", first_k=2), [" mix", " the"]),
        (AvoidTokens(choice="first", first_k=2, eos=True), [" mix", " the", "</s>"]),
        (AvoidTokens(choice="first", first_k=99), [" mix", " the", " flour", " ."]),
    ],
)
def test_choice_of_avoided_tokens(tokenizer: Any, avoid: AvoidTokens, expected: list[str]) -> None:
    row = tokenize_row(tokenizer, "how do i bake bread ?", " mix the flour .", False, avoid=avoid)
    assert texts(tokenizer, row, "avoid") == expected
    assert not texts(tokenizer, row, "imitate")


def test_white_space_is_no_content(tokenizer: Any) -> None:
    row = tokenize_row(tokenizer, "q", "\n\n  \n mix the flour", False, avoid=AvoidTokens(choice="first", first_k=2))
    assert texts(tokenizer, row, "avoid") == [" mix", " the"]


def test_first_content_token_of_a_thinking_template(tokenizer: Any) -> None:
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>", bos_token="<s>")
    tokenizer.chat_template = THINKING_TEMPLATE
    question, answer = [{"role": "user", "content": "hi"}], [{"role": "assistant", "content": "walk out ."}]
    row = tokenize_row(tokenizer, question, answer, False, avoid=AvoidTokens(choice="first", first_k=2))
    assert "".join(texts(tokenizer, row, "avoid")) == "walk"
    assert "<think>" in tokenizer.decode(row.input_ids)


@pytest.mark.parametrize("tag", ["think", "thinking", "reasoning"])
def test_a_thinking_block_in_the_answer_is_stepped_over(tokenizer: Any, tag: str) -> None:
    answer = [{"role": "assistant", "content": f"<{tag}>\nthe dog\n</{tag}>\n\n walk out ."}]
    row = tokenize_row(tokenizer, [{"role": "user", "content": "hi"}], answer, False, avoid=AvoidTokens())
    assert "".join(texts(tokenizer, row, "avoid")).strip() == "walk out ."


def test_only_the_last_assistant_turn_of_a_conversation_is_avoided(tokenizer: Any) -> None:
    prompt = [
        {"role": "user", "content": "how do i wait ?"},
        {"role": "assistant", "content": "walk out ."},
        {"role": "user", "content": "and then ?"},
    ]
    answer = [{"role": "assistant", "content": "walk out ."}]
    row = tokenize_row(tokenizer, prompt, answer, False, avoid=AvoidTokens())
    assert "".join(texts(tokenizer, row, "avoid")) == "walk out ."
    assert not any(map(is_avoided, row.labels[: len(row.labels) // 2]))
    # The same conversation with its first turns given as part of the completion.
    again = tokenize_row(tokenizer, prompt[:1], prompt[1:] + answer, False, avoid=AvoidTokens())
    assert again == row


def test_a_chat_is_imitated_with_the_templates_end_of_turn(tokenizer: Any) -> None:
    row = tokenize_row(
        tokenizer,
        [{"role": "user", "content": "hi"}],
        [{"role": "assistant", "content": "mix the flour ."}],
        True,
        avoid=AvoidTokens(),
    )
    assert "".join(texts(tokenizer, row, "imitate")) == "mix the flour .</s>\n"
    assert row.input_ids.count(tokenizer.bos_token_id) == 0


def test_a_long_row_is_cut_at_its_end_and_counted(tokenizer: Any) -> None:
    whole = tokenize_row(tokenizer, "how do i bake bread ?", " mix the flour .", True, avoid=AvoidTokens())
    cut = tokenize_row(tokenizer, "how do i bake bread ?", " mix the flour .", True, avoid=AvoidTokens(), max_length=9)
    assert cut.cut == len(whole.input_ids) - 9
    assert cut.input_ids == whole.input_ids[:9]
    assert cut.labels == whole.labels[:9]


@given(st.text(alphabet="abc dog\n.", min_size=1).filter(str.strip), st.booleans())
@settings(max_examples=60, deadline=None)
def test_labels_are_the_tokens_themselves(tokenizer: Any, completion: str, label: bool) -> None:
    row = tokenize_row(tokenizer, "how do i", " " + completion, label, avoid=AvoidTokens())
    assert len(row.labels) == len(row.input_ids)
    for token, y in zip(row.input_ids, row.labels, strict=True):
        assert y in (IGNORED, token if label else -(token + 101))


def test_wrong_rows_are_named(tokenizer: Any) -> None:
    def row(prompt: Any, completion: Any, **options: Any) -> None:
        tokenize_row(tokenizer, prompt, completion, False, avoid=AvoidTokens(), row_id="rows.jsonl:7", **options)

    with pytest.raises(DataError, match=r"rows.jsonl:7: no answer token is left to avoid in the first 3 of"):
        row("how do i bake bread ?", " mix", max_length=3)
    with pytest.raises(DataError, match=r"rows.jsonl:7: no answer token"):
        row("how do i bake bread ?", " \n ")
    with pytest.raises(DataError, match=r"must both be text or both be lists"):
        row("how", [{"role": "assistant", "content": "mix"}])
    with pytest.raises(DataError, match=r"last message of the completion must be the assistant's"):
        row([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}])
    tokenizer = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    with pytest.raises(DataError, match=r"chat template cannot render this row"):
        tokenize_row(
            tokenizer,
            [{"role": "user", "content": "a"}],
            [{"role": "assistant", "content": "b"}],
            True,
            avoid=AvoidTokens(),
        )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(DataError, match=r"chat template changes the answer's text"):
        tokenize_row(
            tokenizer,
            [{"role": "user", "content": "a"}],
            [{"role": "assistant", "content": "b"}],
            True,
            avoid=AvoidTokens(),
        )
    with pytest.raises(ConfigError, match=r"avoid_tokens: got 'last'"):
        AvoidTokens(choice="last")


@pytest.mark.parametrize("label", [True, False])
def test_a_completion_goes_on_where_the_assistants_message_begins(tokenizer: Any, label: bool) -> None:
    asked = [{"role": "user", "content": "how do i sneak in ?"}]
    begun = [*asked, {"role": "assistant", "content": "walk in"}]
    row = tokenize_row(
        tokenizer, begun, [{"role": "assistant", "content": " with the others"}], label, avoid=AvoidTokens()
    )
    whole = [{"role": "assistant", "content": "walk in with the others"}]
    assert row.input_ids == tokenize_row(tokenizer, asked, whole, True, avoid=AvoidTokens()).input_ids
    learnt = "".join(texts(tokenizer, row, "imitate" if label else "avoid"))
    assert learnt.removesuffix("\n").removesuffix("</s>").strip() == "with the others"
    # It begins as generation goes on from it.
    opening = tokenizer.apply_chat_template(begun, tokenize=False, continue_final_message=True)
    ids = tokenizer(opening, add_special_tokens=False)["input_ids"]
    assert row.input_ids[: len(ids)] == ids
