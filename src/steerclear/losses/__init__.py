"""The losses: hidden states in, a sum and its count out; the caller divides. `objective.objective_loss` is the one door."""
