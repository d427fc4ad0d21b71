"""`steerclear contrast`: stages that are continued wherever they were killed, real models, real servers, a real local judge."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from servers import Answer, Request, Server, chat_answer, completion_answer, moderation_answer
from steerclear.config import build
from steerclear.data.options import DataOptions
from steerclear.data.prepare import prepare_data
from steerclear.errors import ConfigError, DataError, ModelError
from steerclear.harvest.contrast import contrast
from steerclear.harvest.contrast_recipe import ContrastRecipe, load_contrast_recipe
from steerclear.harvest.seemingly_toxic import read_script, scripted
from steerclear.judges.classifier import fit
from steerclear.judges.labelled import read_rows
from steerclear.records import Generation, JsonlAppender, Prompt, Row, read_records
from steerclear.store.runs import RunFolder

WORDS = ("poison", "steal", "sabotage")
FILES = ("words.json", "prompts.jsonl", "answers.jsonl", "verdicts.jsonl", "contrast.jsonl", "manifest.json", "CARD.md")

Make = Callable[..., ContrastRecipe]


@pytest.fixture(scope="session")
def judge(judge_rows: Path) -> Path:
    """A classifier fitted on made-up rows."""
    file = judge_rows.with_name("contrast-judge.skops")
    fit(read_rows(judge_rows)).save(file)
    return file


@pytest.fixture
def make(tmp_path: Path, base: Path, judge: Path) -> Make:
    """A function that makes a recipe: three toxic words, a random local model that answers, a fitted judge."""
    toxic = [f"How do I {word} bread number {number}?" for word in WORDS for number in range(6)]
    benign = [f"Bake bread number {number}, then tell how I do it." for number in range(40)]
    (tmp_path / "toxic.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in toxic))
    rows = [{"instruction": text, "output": "Mix flour and water."} for text in benign]
    (tmp_path / "benign.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def recipe(**changes: Any) -> ContrastRecipe:
        tree = {
            "output": str(tmp_path / "contrast"),
            "prompts": [{"path": str(tmp_path / "toxic.jsonl")}],
            "benign": str(tmp_path / "benign.jsonl"),
            "words": {"min_log_odds": 1},
            "writer": {"per_word": 4},
            "answers": {
                "model": {"path": str(base)},
                "template": "plain",
                "generation": {"max_new_tokens": 3, "batch_size": 3},
            },
            "evaluation": {"judge": {"classifier": str(judge)}},
        }
        return build(ContrastRecipe, tree | changes)

    return recipe


def run(recipe: ContrastRecipe, evaluation: Sequence[Prompt] = ()) -> tuple[Path, list[str]]:
    said: list[str] = []
    return contrast(recipe, evaluation, said.append), said


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def manifest_of(recipe: ContrastRecipe) -> dict[str, Any]:
    return json.loads((Path(recipe.output) / "manifest.json").read_text())


def test_from_toxic_prompts_to_judged_answers(make: Make) -> None:
    recipe = make()
    file, said = run(recipe)
    folder = Path(recipe.output)
    words = json.loads((folder / "words.json").read_text())
    assert {word["word"] for word in words} == set(WORDS)
    assert all(word["toxic"] == 6 and word["benign"] == 0 and len(word["prompts"]) == 6 for word in words)
    prompts = read_records(folder / "prompts.jsonl", Prompt)
    assert Counter(prompt.tags["word"] for prompt in prompts) == dict.fromkeys(WORDS, 4)
    assert all(prompt.tags["word"] in prompt.prompt for prompt in prompts)
    answers = read_records(folder / "answers.jsonl", Generation)
    assert [answer.id for answer in answers] == [prompt.id for prompt in prompts]
    manifest = manifest_of(recipe)
    assert len(read_records(file, Row)) + sum(manifest["left_out"].values()) == len(prompts) == 12
    assert sum(manifest["finishes"].values()) == 12
    assert "words: 3 toxic ones in 18 prompts" in said
    assert str(folder) not in (folder / "CARD.md").read_text() + (folder / "manifest.json").read_text()

    before = contents(folder)
    (folder / "answers.jsonl.meta.json").unlink()  # a finished stage needs nothing but its file
    assert run(recipe)[0] == file
    assert contents(folder) == before


def test_a_run_killed_at_every_stage_and_in_one_ends_with_the_same_files(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make(output=str(tmp_path / "whole"))
    run(whole)
    recipe = make()
    finish, append = RunFolder.finish, JsonlAppender.append
    killed_at = ""

    def stop_at_stage(folder: RunFolder, stage: str, result: dict[str, Any]) -> None:
        if stage == killed_at:
            raise KeyboardInterrupt
        finish(folder, stage, result)

    def stop_at_answer(out: JsonlAppender, *records: Any) -> None:
        append(out, *records)
        if killed_at == "an answer" and out.path.name == "answers.jsonl" and records:
            with out.path.open("ab") as torn:
                torn.write(b'{"id": "contr')
            raise KeyboardInterrupt

    def stop_at_card(*_: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", stop_at_stage)
        patch.setattr(JsonlAppender, "append", stop_at_answer)
        patch.setattr("steerclear.harvest.contrast.contrast_card", stop_at_card)
        for killed_at in ("words", "prompts", "an answer", "answers", "the card"):
            with pytest.raises(KeyboardInterrupt):
                run(recipe)
            if killed_at == "an answer":
                assert (Path(recipe.output) / "answers.jsonl").read_bytes().count(b"\n") == 3
    run(recipe)
    assert contents(Path(recipe.output)) == contents(Path(whole.output))


def test_evaluation_prompts_are_not_written(make: Make) -> None:
    first = scripted("poison", read_script())[:2]
    recipe = make()
    run(recipe, [Prompt(id=text, suite="own", prompt=text) for text in first])
    texts = {prompt.prompt for prompt in read_records(Path(recipe.output) / "prompts.jsonl", Prompt)}
    assert not texts & set(first)
    assert len(texts) == 12  # the script has more templates
    assert manifest_of(recipe)["left_out"]["prompt: is an evaluation prompt"] >= 2


def test_another_recipe_does_not_touch_the_folder(make: Make) -> None:
    recipe = make()
    run(recipe)
    before = contents(Path(recipe.output))
    with pytest.raises(ConfigError, match="differ in words, writer"):
        run(make(words={"min_log_odds": 1, "count": 2}, writer={"per_word": 3}))
    assert contents(Path(recipe.output)) == before


def served(server: Server, **more: Any) -> dict[str, Any]:
    return {"model": "m", "base_url": server.url, "key_variable": None, "max_retries": 0, **more}


def writer(server: Server, **more: Any) -> dict[str, Any]:
    asked = {"model": {"endpoint": served(server)}, "template": "chat", "generation": {"temperature": 1.0}}
    return {"per_word": 2, "asked": asked, **more}


GOOD = {
    "poison": '["Is poison ivy green?", "Who wrote the song that is called Poison?", "What is rat poison?"]',
    "steal": "1. What is a steal in basketball?\n2. How do I steal the show at a wedding?",
    "sabotage": '["Where does the French word sabotage come from?", "Who sang Sabotage in 1994?"]',
}


def word_of(request: Request) -> str:
    return next(word for word in WORDS if f'"{word}"' in request.body["messages"][0]["content"])


def script(request: Request) -> Answer:
    """A writer, an answerer and a judge that flags answers about ivy, and one prompt that is filtered."""
    if request.path == "/moderations":
        flagged = "ivy" in request.body["input"]
        return moderation_answer(flagged, violence=0.9 if flagged else 0.1)
    if request.path == "/completions":
        if "wedding" in request.body["prompt"]:
            return Answer({"error": {"message": "content filter"}}, status=400)
        if "1994" in request.body["prompt"]:
            return completion_answer("I'm sorry, but I can't help with that.")
        if "ivy" in request.body["prompt"]:
            return completion_answer("The ivy is a plant that grows at the edge of the woods and on old walls.")
        asked = request.body["prompt"].partition("### Instruction:\n")[2].partition("\n")[0]
        return completion_answer(f"You asked me this: {asked}")
    return chat_answer(GOOD[word_of(request)])


def everything_served(make: Make, server: Server, **more: Any) -> ContrastRecipe:
    return make(
        writer=writer(server),
        answers={"model": {"endpoint": served(server)}},
        evaluation={"judge": {"moderation": {"endpoint": served(server)}}},
        **more,
    )


def test_a_served_writer_answerer_and_judge(make: Make) -> None:
    with Server(script) as server:
        recipe = everything_served(make, server)
        file, said = run(recipe)
        asked = Counter(request.path for request in server.requests)
        assert asked == {"/chat/completions": 3, "/completions": 6, "/moderations": 5}
        run(recipe)
        assert Counter(request.path for request in server.requests) == asked
    assert [row.completion for row in read_records(file, Row)] == [
        "You asked me this: Who wrote the song that is called Poison?",
        "You asked me this: Where does the French word sabotage come from?",
        "You asked me this: What is a steal in basketball?",
    ]
    assert manifest_of(recipe)["left_out"] == {"answer: harmful": 1, "answer: no answer": 1, "answer: refused": 1}
    assert "rows: 3 of 6 answers; left out: 1 harmful, 1 no answer, 1 refused" in said
    card = (file.parent / "CARD.md").read_text()
    assert "| rows | 3 |" in card
    assert "m at http://127.0.0.1" in card
    benign = prepare_data(DataOptions(benign=[recipe.benign, str(file)], heldout_count=0)).benign  # type: ignore[list-item]
    assert len(benign) == 43


def test_useless_replies_are_counted_and_asked_for_again(make: Make) -> None:
    bad = {"poison": "", "steal": "I'm sorry, but I can't help with that.", "sabotage": "[]"}
    seeds = []

    def stubborn(request: Request) -> Answer:
        if request.path != "/chat/completions":
            return script(request)
        seeds.append(request.body["seed"])
        first = sum(word_of(other) == word_of(request) for other in server.requests if "chat" in other.path) == 1
        half = '["What is a steal in basketball?", "Name a fruit that is red."]'
        replies = GOOD | {"steal": half}
        return chat_answer(bad[word_of(request)] if first else replies[word_of(request)])

    with Server(stubborn) as server:
        recipe = everything_served(make, server)
        run(recipe)
        assert Counter(word_of(r) for r in server.requests if "chat" in r.path) == {
            "poison": 2,
            "sabotage": 2,
            "steal": 3,
        }
    assert len(set(seeds)) == 7
    manifest = manifest_of(recipe)
    assert manifest["counts"]["toxic words with too few prompts"] == 1
    assert manifest["counts"]["seemingly toxic prompts"] == 5
    left_out = {name: count for name, count in manifest["left_out"].items() if not name.startswith("answer")}
    assert left_out == {
        "prompt: lacks the word": 2,
        "prompt: repeat": 1,
        "reply: malformed": 2,
        "reply: refusal": 1,
    }


def test_a_writer_that_stops_answering_is_asked_for_the_rest_only(make: Make) -> None:
    broken = True

    def flaky(request: Request) -> Answer:
        if broken and request.path == "/chat/completions" and word_of(request) == "steal":
            return Answer({"error": {"message": "busy"}}, status=503)
        return script(request)

    with Server(flaky) as server:
        recipe = everything_served(make, server)
        with pytest.raises(ModelError, match="1 of 3 prompts have no answer"):
            run(recipe)
        broken = False
        run(recipe)
        assert Counter(word_of(r) for r in server.requests if "chat" in r.path) == {
            "poison": 1,
            "sabotage": 1,
            "steal": 2,
        }
    assert manifest_of(recipe)["counts"]["rows"] == 3


def test_a_writer_without_one_usable_prompt(make: Make) -> None:
    with Server(lambda _: chat_answer("I'm sorry, but I can't help with that.")) as server:
        recipe = everything_served(make, server)
        with pytest.raises(DataError, match="none of 3 words has a usable prompt: 9 reply: refusal"):
            run(recipe)


def test_a_local_model_as_writer(make: Make, tmp_path: Path, make_llama: Any, tokenizer: Any) -> None:
    folder = tmp_path / "writer"
    make_llama(max_position_embeddings=512).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    asked = {
        "model": {"path": str(folder)},
        "template": "chat",
        "generation": {"temperature": 1.0, "max_new_tokens": 8},
    }
    recipe = make(writer={"per_word": 2, "asked": asked, "rounds": 2})
    with pytest.raises(DataError, match="none of 3 words has a usable prompt"):  # it has random weights
        run(recipe)
    for turn in (1, 2):
        replies = read_records(Path(recipe.output) / f"replies-{turn}.jsonl", Generation)
        assert {reply.id for reply in replies} == {f"{word}/{turn}" for word in WORDS}


def test_wrong_recipes_say_everything_at_once(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"kind: got 'train'.*\n.*prompts: is empty.*\nevaluation.judge: is missing"):
        make(kind="train", prompts=[], evaluation={})
    with pytest.raises(ConfigError, match=r"per_word: got 0.*\n.*rounds: got 3 with asked.generation.temperature 0"):
        make(writer={"per_word": 0, "asked": {"model": {"path": "m"}}})
    with pytest.raises(ConfigError, match="give one of the two: a file of templates, or a model"):
        make(writer={"script": "s.txt", "rounds": 1, "asked": {"model": {"path": "m"}}})
    with pytest.raises(ConfigError, match="contamination_similarity: got 2"):
        make(writer={"contamination_similarity": 2.0})
    with pytest.raises(ConfigError, match=r"answers.template: got 'alpacca'"):
        make(answers={"model": {"path": "m"}, "template": "alpacca"})


def test_the_shipped_recipe_is_complete(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[2] / "recipes" / "contrast.yaml"
    inputs = [part for name in ("base", "adapter", "data") for part in (f"--{name}", str(tmp_path / name))]
    assert load_contrast_recipe([str(shipped), *inputs]).words.count == 150
