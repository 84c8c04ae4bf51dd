"""Costs that are measured: what a layer takes on a processor at each weight bitwidth."""
