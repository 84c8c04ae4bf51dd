import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from agents.vec_env import QuantizeNetVecEnv
from releq_gym.env import QuantizeNetEnv

BUDGET = {"cost": 0.4}


def both(**options):
    """The same problem by one vector environment, and by copies one after the other."""
    fast = QuantizeNetVecEnv(4, **options)
    slow = DummyVecEnv([lambda: QuantizeNetEnv(**options)] * 4)
    fast.seed(3), slow.seed(3)
    return fast, slow


@pytest.mark.parametrize("observation", ["layer", "full"])
@pytest.mark.parametrize("evaluate", ["final", "every_step"])
def test_it_does_what_copies_one_after_the_other_do(observation, evaluate):
    fast, slow = both(net="digits", observation=observation, evaluate=evaluate)
    np.testing.assert_equal(fast.reset(), slow.reset())
    rng, ended = np.random.default_rng(0), 0
    for _ in range(40):
        actions = rng.integers(7, size=4)
        *ours, infos = fast.step(actions)
        *theirs, expected = slow.step(actions)
        np.testing.assert_equal(ours, theirs)
        for info, other, over in zip(infos, expected, ours[2], strict=True):
            ended += over
            assert bool(info) == over
            for name, value in info.items():
                np.testing.assert_equal(value, other[name], err_msg=name)
            assert not over or set(other) == set(info)
    assert ended == 40


def test_masks_reach_a_masking_agent():
    fast, slow = both(net="digits", cost_budget=BUDGET)
    fast.reset(), slow.reset()
    np.testing.assert_array_equal(get_action_masks(fast), get_action_masks(slow))
    agent = MaskablePPO("MlpPolicy", fast, n_steps=8, batch_size=32, seed=0)
    agent.learn(64)
    answer = fast.ledger.best(fast.problem)
    assert answer.cost <= BUDGET["cost"]


def test_an_agent_of_stable_baselines3_learns_on_it():
    venv = VecMonitor(QuantizeNetVecEnv(16, net="synthetic", task="synthetic-4-0"))
    agent = PPO("MlpPolicy", venv, n_steps=16, batch_size=64, gamma=1.0, seed=0)
    agent.learn(4_096)
    returns = [episode["r"] for episode in agent.ep_info_buffer]
    assert venv.get_attr("ledger")[0].distinct > 10
    first = PPO("MlpPolicy", venv, n_steps=16, batch_size=64, gamma=1.0, seed=0)
    first.learn(256)
    assert np.mean(returns) > np.mean([episode["r"] for episode in first.ep_info_buffer])


def test_a_spent_budget_truncates():
    venv = QuantizeNetVecEnv(2, net="digits", evaluation_budget=1)
    venv.reset()
    for _ in range(4):
        *_, over, infos = venv.step(np.array([0, 1]))
    assert over.all()
    assert sorted(info["TimeLimit.truncated"] for info in infos) == [False, True]


def test_what_a_copy_cannot_do_is_a_sentence():
    venv = QuantizeNetVecEnv(2, net="digits")
    with pytest.raises(ValueError, match="'net' cannot be set"):
        venv.set_attr("net", "lenet")
    with pytest.raises(ValueError, match="'render' is no method of a copy"):
        venv.env_method("render")
    with pytest.raises(ValueError, match="autoreset_mode= is settled"):
        QuantizeNetVecEnv(2, net="digits", autoreset_mode="NextStep")
    assert venv.env_is_wrapped(VecMonitor) == [False, False]
