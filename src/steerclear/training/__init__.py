"""From rows to an adapter: the trainers, what goes along with a training, and its recovery."""
