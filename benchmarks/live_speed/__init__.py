"""How long an evaluation takes, beside the straightforward way."""
