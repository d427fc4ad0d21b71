"""Answers of a model behind an OpenAI-compatible endpoint, in the same file and as resumable as those of a local one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from steerclear.endpoint import Endpoint, Reply
from steerclear.errors import ConfigError, ModelError
from steerclear.generation.answers import fill_file, unanswered
from steerclear.generation.options import GenerationOptions
from steerclear.records import Generation, Messages, Prompt, sha256_of


def generate_from_endpoint(
    endpoint: Endpoint,
    prompts: Sequence[Prompt],
    rendered: Sequence[str | Messages],
    options: GenerationOptions,
    path: Path,
    *,
    progress: bool = True,
) -> list[Generation]:
    """Answer every prompt and write the answers to ``path``, in the prompts' order, as `steerclear.generation.generate` does.

    Each answer is on disk as soon as it is there. `steerclear.generation.finished` with ``endpoint.options.identity`` as its
    ``model_id`` tells whether there is anything left to ask.

    A prompt that the server will never answer (a content filter's HTTP 400) has a record too, without an answer.

    Greedy answers are those of the server's arithmetic. A sample is drawn by the server, with a seed of the prompt's own, which
    servers follow as well as they can. ``tokens`` is the server's count (0: it has none), which mostly includes the
    end-of-sequence token; ``finish`` is ``eos`` for every end but the token limit.

    Args:
        rendered: what the model reads for each prompt. Text is continued (``/completions``); messages are answered
            (``/chat/completions``), with the server's chat template. An assistant's message that comes last is sent as it is:
            whether it is continued or followed by another turn is the server's choice.

    Raises:
        ConfigError: an option that the protocol does not have, or the server knows the key or the model not.
        DataError: two prompts share an id, or the file belongs to other prompts, options or another model.
        ModelError: some prompts have no answer yet, after all others were answered and written; or the server stopped answering.
        StorageError: the file cannot be written.
    """
    if options.num_beams > 1 or options.top_k > 0:
        raise ConfigError(
            f"num_beams {options.num_beams}, top_k {options.top_k}: an endpoint has neither a beam search nor top-k. "
            "Set num_beams 1 and top_k 0, or run the model locally."
        )
    texts = {prompt.id: text for prompt, text in zip(prompts, rendered, strict=True)}

    async def ask(prompt: Prompt) -> Generation:
        return _record(prompt, await _reply(endpoint, texts[prompt.id], prompt.id, options))

    def answer(todo: Sequence[Prompt]) -> Iterator[list[Generation]]:
        failures = []
        for place, result in endpoint.map(ask, todo):
            if isinstance(result, Generation):
                yield [result]
            elif result.passes:
                failures.append(str(result))
            else:
                yield [unanswered(todo[place], str(result))]
        if failures:
            reasons = "; ".join(f"{count} x {reason}" for reason, count in Counter(failures).most_common(3))
            raise ModelError(
                f"{endpoint.options.identity}: {len(failures)} of {len(prompts)} prompts have no answer ({reasons}). "
                f"The others' are kept in {path}; run again to ask only for those that are missing."
            )

    return fill_file(prompts, rendered, options, path, answer, model_id=endpoint.options.identity, progress=progress)


async def _reply(endpoint: Endpoint, text: str | Messages, prompt_id: str, options: GenerationOptions) -> Reply:
    sampled = options.temperature > 0
    seed = (
        int(sha256_of([options.seed, prompt_id])[:8], 16) >> 1 if sampled else None
    )  # 31 bits: servers' seeds are signed
    top_p = options.top_p if options.top_p < 1 else None
    if isinstance(text, str):
        return await endpoint.complete(
            text, max_tokens=options.max_new_tokens, temperature=options.temperature, top_p=top_p, seed=seed
        )
    return await endpoint.chat(
        text, max_tokens=options.max_new_tokens, temperature=options.temperature, top_p=top_p, seed=seed
    )


def _record(prompt: Prompt, reply: Reply) -> Generation:
    return Generation(
        id=prompt.id,
        suite=prompt.suite,
        prompt=prompt.prompt,
        response=reply.text.strip(),
        finish="length" if reply.finish_reason == "length" else "eos",
        tokens=reply.tokens or 0,
        tags=prompt.tags,
    )
