"""What a policy makes of the observation ``"full"``: attention from the layer at hand to all."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

OF_EACH_LAYER = "bitwidths", "decided", "current"
"""Parts of the observation that are one number per layer, beside ``layers`` and ``mask``."""


class AttentionExtractor(BaseFeaturesExtractor):
    """One round of attention over the rows of the observation ``"full"``.

    Every layer's row, its bitwidth so far and its two flags are embedded; the layer to decide (of
    a group their mean) asks, all real layers answer. Padded rows have no say. What comes out is
    the row at hand as it is, its embedding, the answer, and ``episode``: float32
    ``[observations, features_dim]``.

    Attention (Vaswani et al., 2017, arXiv 1706.03762) with a single query rather than a whole
    transformer: one decision is asked for at a time, so that the work grows with the number of
    layers, not with its square. All heads look at the same keys and values (multi-query attention,
    Shazeer, 2019, arXiv 1911.02150), here the embeddings themselves: projections of all rows would
    be most of the work, and with one query those of the query and of the answer do the same.

    Args:
        observation_space: That of ``observation="full"``.
        width: Of an embedding.
        heads: Of the attention.
    """

    def __init__(self, observation_space: gym.spaces.Dict, width: int = 32, heads: int = 4):
        (_, features), (episode,) = (
            observation_space[name].shape or () for name in ("layers", "episode")
        )
        row = features + len(OF_EACH_LAYER)
        super().__init__(observation_space, row + 2 * width + episode)
        self.embed = nn.Sequential(nn.Linear(row, width), nn.ReLU())
        self.ask = nn.Linear(width + episode, heads * width)
        self.answer = nn.Linear(heads * width, width)
        self.heads = heads

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """See the class.

        Args:
            observations: The parts of the Dict, each ``[observations, ...]``.
        """
        mask = observations["mask"]
        present = mask[:, 0] > 0  # real layers come first
        if not bool(present.all()):  # RecurrentPPO pads with observations that have no layer
            seen = mask.new_zeros(len(mask), self.features_dim)
            if bool(present.any()):
                some = self({name: part[present] for name, part in observations.items()})
                seen = seen.index_put((present,), some)
            return seen
        real = int(mask.sum(dim=1).max())  # what is padding in all observations costs nothing
        numbers = [observations[name][:, :real, None] for name in OF_EACH_LAYER]
        rows = torch.cat([observations["layers"][:, :real], *numbers], dim=2)
        current = observations["current"][:, None, :real]
        current = current / current.sum(dim=2, keepdim=True).clamp(min=1.0)  # all 0 at the end
        embedded = self.embed(rows)
        own, episode = (current @ embedded)[:, 0], observations["episode"]
        padding = mask[:, None, :real] == 0
        question = self.ask(torch.cat([own, episode], dim=1)).unflatten(1, (self.heads, -1))
        scores = question @ embedded.transpose(1, 2) / embedded.shape[2] ** 0.5
        weights = scores.masked_fill(padding, -torch.inf).softmax(dim=2)
        answer = self.answer((weights @ embedded).flatten(1))
        return torch.cat([(current @ rows)[:, 0], own, answer, episode], dim=1)


def extractor(observation_space: gym.Space[Any]) -> dict[str, Any]:
    """``policy_kwargs`` of a policy: `AttentionExtractor` where all layers are seen, else none."""
    dictionary = isinstance(observation_space, gym.spaces.Dict)
    return {"features_extractor_class": AttentionExtractor} if dictionary else {}
