"""Many trainings at once: grids, the search for a setting, and the paper's tables. Nothing here imports torch."""
