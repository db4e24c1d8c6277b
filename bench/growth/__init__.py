"""How the cost of everything grows with its number: programs beside the scenario of that name."""
