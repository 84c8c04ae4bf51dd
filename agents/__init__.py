"""Reinforcement learning on the environment: ``python -m agents.train``. One agent per file."""
