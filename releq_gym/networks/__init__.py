"""Networks: one file each, registered by name; and what finds the layers of any of them."""

from releq_gym.networks.base import NETWORKS, Network, Recipe, register_network
from releq_gym.networks.profile import network_layers
from releq_gym.networks.resolve import NetworkLike, resolve_network

__all__ = [
    "NETWORKS",
    "Network",
    "NetworkLike",
    "Recipe",
    "network_layers",
    "register_network",
    "resolve_network",
]
