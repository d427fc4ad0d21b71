"""From an answer to its verdict: harm by a classifier, a model or an endpoint, refusals and broken language by rules."""
