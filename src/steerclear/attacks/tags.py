"""Tags of an attacked prompt, beside those of `steerclear.records` and `steerclear.evaluation.suites`."""

ASKED = "asked"
"""What was asked in place of the behavior. The prompt itself stays the behavior, which is what judges must see."""

GOAL = "goal"
"""Id of the behavior, where several answers are to one."""

SHOTS = "shots"
"""How many faked exchanges stood before the behavior."""
