"""How well a map that was found again in a sampled picture agrees with the true one. No torch, no networks."""
