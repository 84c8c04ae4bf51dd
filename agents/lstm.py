"""sb3-contrib's LSTM policies, whose sequences go through the LSTM in one call.

sb3-contrib cuts its rollouts into sequences at the starts of episodes, so that only the first step
of a sequence can be one, and it resets the state there; but it then takes every sequence step by
step. In one call the outputs are the same and an update takes a fraction of the time
(``python -m benchmarks.throughput``).
"""

from __future__ import annotations

from typing import Any

import torch
from sb3_contrib.ppo_recurrent import policies
from torch import Tensor, nn

States = tuple[Tensor, Tensor]
"""Hidden and cell states, ``[1, sequences, size]`` each."""


class MlpLstmPolicy(policies.RecurrentActorCriticPolicy):
    """For vectors."""

    @staticmethod
    def _process_sequence(
        features: Tensor, lstm_states: States, episode_starts: Tensor, lstm: nn.LSTM
    ) -> tuple[Tensor, Any]:
        """The outputs ``[sequences * steps, size]``, and the states at the end.

        Args:
            features: ``[sequences * steps, features]``, one sequence after the other.
            lstm_states: Before the first step of each.
            episode_starts: Where these do not count, 0 or 1 ``[sequences * steps]``.
            lstm: The network.
        """
        sequences = lstm_states[0].shape[1]
        starts = episode_starts.reshape(sequences, -1)
        if (starts[:, 1:] != 0).any():  # which sb3-contrib's buffers never do
            return policies.RecurrentActorCriticPolicy._process_sequence(
                features, lstm_states, episode_starts, lstm
            )
        kept = (1.0 - starts[:, 0]).view(1, sequences, 1)
        steps_first = features.reshape(sequences, -1, lstm.input_size).swapaxes(0, 1)
        hidden, cell = lstm_states
        outputs, last = lstm(steps_first, (kept * hidden, kept * cell))
        return torch.flatten(outputs.swapaxes(0, 1), end_dim=1), last


class MultiInputLstmPolicy(MlpLstmPolicy, policies.RecurrentMultiInputActorCriticPolicy):
    """For several parts by name."""
