"""Who finds good bitwidths with few evaluations? Every algorithm under one protocol."""
