"""How well a surrogate stands for what it is fitted to."""
