"""How fast the environment steps, beside CartPole, and what it costs in training and at start."""
