"""From a model and suites of prompts to typed scores: answers, verdicts, rates, and what the model still can."""
