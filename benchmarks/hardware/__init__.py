"""What bitwidths are worth on hardware: cost models, searches under budgets, speed of budgets."""
