"""How cfx trains classifiers, oracles and robust networks."""
