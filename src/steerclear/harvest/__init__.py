"""Harvest: toxic prompts, sampled answers of one's own model, verdicts, and the rows chosen from them."""
