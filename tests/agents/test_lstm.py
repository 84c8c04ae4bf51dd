"""Sequences in one call give what step by step gives."""

import pytest
import torch
from sb3_contrib.ppo_recurrent import policies
from torch import nn

from agents.lstm import MlpLstmPolicy, MultiInputLstmPolicy
from agents.recurrent_ppo import RecurrentPPOAgent, RecurrentPPOSettings
from benchmarks.learning import learn_until_spent
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Ledger


@pytest.mark.parametrize("policy", [MlpLstmPolicy, MultiInputLstmPolicy])
@pytest.mark.parametrize(
    ("sequences", "starts"),
    [
        (3, [[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]),
        (2, [[1], [0]]),
        (2, [[0, 0, 1, 0], [1, 0, 0, 0]]),  # in the middle
    ],
)
def test_sequences_in_one_call_give_what_step_by_step_gives(policy, sequences, starts):
    torch.manual_seed(0)
    lstm, steps = nn.LSTM(5, 7), len(starts[0])
    features = torch.randn(sequences * steps, 5, requires_grad=True)
    states = torch.randn(1, sequences, 7), torch.randn(1, sequences, 7)
    given = features, states, torch.tensor(starts, dtype=torch.float32).flatten(), lstm
    found = []
    for kind in (policies.RecurrentActorCriticPolicy, policy):
        outputs, last = kind._process_sequence(*given)
        weights = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
        gradients = torch.autograd.grad((outputs * weights).sum(), [features, *lstm.parameters()])
        found.append([outputs, *last, *gradients])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("observation", ["layer", "full"])
def test_sequences_of_a_rollout_take_one_call(monkeypatch, observation):
    monkeypatch.setattr(
        policies.RecurrentActorCriticPolicy,
        "_process_sequence",
        staticmethod(lambda *_: pytest.fail("step by step")),
    )
    ledger = Ledger(40)
    agent = RecurrentPPOAgent(
        lambda: QuantizeNetEnv(task="synthetic-4-0", ledger=ledger, observation=observation),
        RecurrentPPOSettings(n_envs=3),
        seed=0,
    )
    learn_until_spent(agent, ledger, 400)
    agent.close()
