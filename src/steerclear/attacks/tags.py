"""Tags of an attacked prompt, beside those of `steerclear.records` and `steerclear.evaluation.suites`."""

ASKED = "asked"
"""What was asked in place of the goal. The prompt itself stays the goal, which is what judges must see."""

GOAL = "goal"
"""Id of the goal, where several answers are to one."""

SHOTS = "shots"
"""How many faked exchanges stood before the goal."""
