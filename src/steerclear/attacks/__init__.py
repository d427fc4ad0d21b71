"""Attacks on a model's safety: what is asked in place of a harmful request, and how often that succeeds."""
