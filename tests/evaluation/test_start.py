"""What an evaluation imports before it has anything to do: seconds that every command would wait."""

from __future__ import annotations

import subprocess
import sys


def test_a_run_imports_nothing_that_trains_or_answers_before_it_does() -> None:
    script = (
        "import sys, steerclear.experiments.run\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'sklearn', 'skops'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
