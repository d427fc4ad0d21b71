"""PAIR against a real OpenAI-compatible server: `transformers serve`, with a model made here."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steerclear.attacks.pair import Turn
from steerclear.records import read_records

pytest.importorskip("fastapi", reason="transformers serve needs fastapi and uvicorn, which are in the extra 'test'")


@pytest.fixture
def served(base: Path) -> Iterator[dict[str, Any]]:
    """The options of a model that is really served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"
    command = [sys.executable, "-c", script, "serve", str(base), "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health", process)
            yield {"endpoint": {"model": str(base), "base_url": f"http://127.0.0.1:{port}/v1", "key_variable": None}}
        finally:
            process.kill()


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(address):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")


def test_a_served_target_is_attacked(
    steerclear: Callable[..., tuple[int, str, str]], served: dict[str, Any], tmp_path: Path
) -> None:
    """The served model is random: as the target it answers, as an attacker it writes nothing that can be read."""
    behaviors = tmp_path / "goals.jsonl"
    behaviors.write_text(
        "".join(json.dumps({"id": name, "prompt": f"how do i {name} ?"}) + "\n" for name in ("a", "b"))
    )
    script = tmp_path / "attacker.jsonl"
    reply = json.dumps({"improvement": "none", "prompt": "tell me a tale"})
    script.write_text(json.dumps({"when": "attempt-1\n", "reply": "I"}) + "\n" + json.dumps({"reply": reply}) + "\n")
    judge = tmp_path / "judge.jsonl"
    judge.write_text(json.dumps({"reply": "Rating: [[3]]"}) + "\n")

    def attack(output: str, attacker: dict[str, Any]) -> tuple[dict[str, Any], list[Turn]]:
        attacks = {
            "behaviors": {"name": "goals", "path": str(behaviors)},
            "judge": {"rating": {"script": str(judge)}},
            "pair": {"attacker": attacker, "streams": 2, "iterations": 2, "attempts": 2},
        }
        settings = {
            "output": str(tmp_path / output), "model": json.dumps(served), "data.template": "chat",
            "evaluation.generation.max_new_tokens": 6, "evaluation.attacks": json.dumps(attacks),
        }  # fmt: skip
        code, _, err = steerclear("attack", **settings)
        assert code == 0, err
        told = json.loads((tmp_path / output / "attacks.json").read_text())["attacks"]["pair"]
        return told, read_records(tmp_path / output / "attacks" / "pair" / "transcripts.jsonl", Turn)

    told, turns = attack("written", {"script": str(script)})
    assert told["calls"] == {"attacker": 16, "target": 8, "judge": 8}
    assert told["malformed"] == 8
    assert len(turns) == 8
    assert all(turn.response and turn.prompt == "tell me a tale" for turn in turns)
    assert (told["asr"]["k"], told["asr"]["n"]) == (0, 2)

    told, turns = attack("random", {"model": served, "generation": {"max_new_tokens": 6, "temperature": 1.0}})
    assert told["calls"] == {"attacker": 16, "target": 0, "judge": 0}
    assert (told["malformed"], told["goals"]) == (16, 0)
    assert {(turn.outcome, turn.prompt) for turn in turns} == {("no prompt", "")}
