"""Wrappers: other costs on an environment that exists, other actions. One per file."""

from releq_gym.wrappers.continuous_bitwidth import ContinuousBitwidth
from releq_gym.wrappers.hardware_cost import HardwareCost
from releq_gym.wrappers.incumbent import Incumbent
from releq_gym.wrappers.one_shot import OneShot

__all__ = ["ContinuousBitwidth", "HardwareCost", "Incumbent", "OneShot"]
