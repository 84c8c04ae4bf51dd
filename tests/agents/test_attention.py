import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import obs_as_tensor

from agents.attention import AttentionExtractor
from agents.base import AGENTS
from releq_gym.env import QuantizeNetEnv


def walked(task="synthetic-8-0", steps=3, **options):
    """The observation after some decisions, as a batch of one."""
    env = QuantizeNetEnv(task=task, observation="full", **options)
    observation, _ = env.reset(seed=0)
    for action in range(steps):
        observation, *_ = env.step(action)
    return env, {name: part[None] for name, part in observation.items()}


def features(extract, observation):
    with torch.no_grad():
        return extract(obs_as_tensor(observation, "cpu")).numpy()


@pytest.fixture
def extract():
    torch.manual_seed(0)
    return AttentionExtractor(walked()[0].observation_space)


def test_padding_has_no_say(extract):
    _, shallow = walked("synthetic-8-0")
    _, deep = walked("synthetic-12-0")
    expected = features(extract, shallow)
    assert expected.shape == (1, extract.features_dim)
    noisy = {name: part.copy() for name, part in shallow.items()}
    for name in ("layers", "bitwidths", "decided"):
        noisy[name][:, 8:] = 0.7
    np.testing.assert_array_equal(features(extract, noisy), expected)
    # Beside a deeper network rows of padding are computed, and masked.
    both = {name: np.concatenate([noisy[name], deep[name]]) for name in noisy}
    np.testing.assert_allclose(features(extract, both)[:1], expected, atol=1e-6)


@pytest.mark.parametrize("layer", [0, 3, 7])
def test_every_real_layer_is_looked_at(extract, layer):
    _, observation = walked()
    other = {name: part.copy() for name, part in observation.items()}
    other["layers"][0, layer] = 1.0 - other["layers"][0, layer]
    assert np.abs(features(extract, other) - features(extract, observation)).max() > 1e-4


def test_the_layer_at_hand_is_seen_as_it_is(extract):
    _, observation = walked(steps=3)
    row = observation["layers"][0, 3]
    np.testing.assert_allclose(features(extract, observation)[0, : len(row)], row, atol=1e-6)


def test_a_group_is_seen_as_its_mean_and_the_end_as_nothing(extract):
    env, grouped = walked(steps=0, groups=[["layer0", "layer5"]])
    row = grouped["layers"][0, [0, 5]].mean(axis=0)
    np.testing.assert_allclose(features(extract, grouped)[0, : len(row)], row, atol=1e-6)
    for _ in env.problem.steps:
        observation, *_ = env.step(0)
    end = features(extract, {name: part[None] for name, part in observation.items()})
    assert np.isfinite(end).all() and (end[0, : len(row)] == 0).all()


def test_observations_without_layers_are_left_out(extract):
    """RecurrentPPO pads with them."""
    _, observation = walked()
    nothing = {name: np.zeros_like(part) for name, part in observation.items()}
    both = {name: np.concatenate([nothing[name], observation[name]]) for name in nothing}
    nobody, somebody = features(extract, both)
    assert (nobody == 0).all()
    np.testing.assert_array_equal(somebody, features(extract, observation)[0])
    assert (features(extract, nothing) == 0).all()


def test_attention_looks_where_the_question_points(extract):
    """Weights of the softmax by hand, one head at a time."""
    _, observation = walked(steps=3)
    parts = [observation[name][:, :8, None] for name in ("bitwidths", "decided", "current")]
    rows = torch.as_tensor(np.concatenate([observation["layers"][:, :8], *parts], axis=2))[0]
    with torch.no_grad():
        embedded = extract.embed(rows)
        asked = extract.ask(torch.cat([embedded[3], torch.as_tensor(observation["episode"][0])]))
        heads = []
        for question in asked.split(embedded.shape[1]):
            weights = torch.exp(embedded @ question / embedded.shape[1] ** 0.5)
            heads.append(weights @ embedded / weights.sum())
        answer = extract.answer(torch.cat(heads)).numpy()
    start = rows.shape[1] + embedded.shape[1]
    seen = features(extract, observation)[0, start : start + len(answer)]
    np.testing.assert_allclose(seen, answer, atol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo"])
def test_an_agent_that_sees_all_layers_attends(name):
    agent = AGENTS[name](
        lambda: QuantizeNetEnv(task="synthetic-4-0", observation="full"),
        AGENTS[name].presets["default"].settings,
        0,
    )
    assert isinstance(agent.model.policy.features_extractor, AttentionExtractor)
    agent.close()
