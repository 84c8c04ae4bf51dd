"""What holds for every agent there is."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.args import parse
from agents.base import AGENTS
from agents.ppo import PPOSettings
from agents.sb3 import LESS, MORE, Novelty, SB3Agent
from benchmarks.learning import learn_until_spent
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Ledger

NAMES = AGENTS.names()
OF_SB3 = [name for name in NAMES if issubclass(AGENTS[name], SB3Agent)]
QUICK = {"n_envs": 4, "n_epochs": 2, "warm_up": 5, "gradient_steps": 2, "searched": 5}
"""Settings, where there are such, of tests that nothing has to be learned in."""


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quick(name):
    settings = AGENTS[name].presets["default"].settings
    fields = {field.name for field in dataclasses.fields(settings)}
    return dataclasses.replace(settings, **{k: v for k, v in QUICK.items() if k in fields})


def make(name, settings, ledger, seed=0, checkpoint=None, task="synthetic-4-0", **options):
    options = {**AGENTS[name].presets["default"].environment, **options}
    return AGENTS[name](
        lambda: QuantizeNetEnv(task=task, ledger=ledger, **options), settings, seed, checkpoint
    )


def play(log, name, settings, budget, **options):
    """Plays until the budget is spent; the episodes of the log."""
    ledger = Ledger(budget, log)
    learn_until_spent(make(name, settings, ledger, **options), ledger, 20_000)
    assert ledger.distinct == budget
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [record for record in records if "actions" in record]


class Looking:
    """Keeps what an agent shows, and stops it after so many steps."""

    def __init__(self, steps):
        self.steps, self.shown = steps, []

    def after_step(self):
        self.steps -= 1
        return self.steps > 0

    def after_rollout(self, probabilities):
        self.shown.append(probabilities)


@pytest.mark.parametrize("name", NAMES)
def test_it_spends_its_budget_and_the_seed_fixes_how(name, tmp_path):
    settings = quick(name)
    first = play(tmp_path / "first", name, settings, 20)
    assert play(tmp_path / "twin", name, settings, 20) == first
    other = play(tmp_path / "other", name, settings, 20, seed=1)
    actions = [[episode["actions"] for episode in episodes] for episodes in (first, other)]
    assert actions[0] != actions[1]
    assert all(len(episode["actions"]) == 4 for episode in first if not episode["cut"])


@pytest.mark.parametrize("name", NAMES)
def test_it_shows_a_distribution_per_layer(name):
    agent, watch = make(name, quick(name), Ledger()), Looking(120)
    agent.learn(1_000, watch)
    agent.close()
    assert len(watch.shown) > 1
    for shown in watch.shown:
        assert shown.shape == (4, 7)
        np.testing.assert_allclose(shown.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name, tmp_path):
    settings = AGENTS[name].presets["default"].settings
    episodes = play(tmp_path / "log", name, settings, 120)
    returns = [sum(episode["rewards"]) for episode in episodes if not episode["cut"]]
    means = np.convolve(returns, np.ones(30) / 30, mode="valid")
    # Random assignments have 0.07, with a standard error of 0.044 over 30; the optimum has 0.56.
    assert means.max() > 0.25
    assert means[0] < means.max()


@pytest.mark.parametrize("name", OF_SB3)
def test_it_goes_on_from_what_it_saved(name, tmp_path):
    settings, ledger = quick(name), Ledger()
    agent = make(name, settings, ledger)
    agent.learn(80, Looking(1_000))
    agent.explore(LESS)
    agent.explore(MORE)
    agent.save(tmp_path / "agent.zip")
    agent.close()
    again = make(name, settings, ledger, seed=1, checkpoint=tmp_path / "agent.zip")
    assert again.steps == agent.steps >= 80
    for ours, theirs in zip(weights(again), weights(agent), strict=True):
        assert torch.equal(ours, theirs)
    if hasattr(agent, "exploration"):
        assert again.exploration == agent.exploration
    again.learn(80, Looking(1_000))
    assert again.steps >= agent.steps + 80
    again.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_walk_ends_at_bitwidths_and_costs_the_search_nothing(name):
    ledger, other = Ledger(), Ledger()
    agent = make(name, quick(name), ledger)
    agent.learn(40, Looking(1_000))
    options = AGENTS[name].presets["default"].environment
    before = ledger.fresh
    walks = [
        agent.walk(QuantizeNetEnv(task="synthetic-4-0", ledger=other, **options)) for _ in "ab"
    ]
    agent.close()
    assert ledger.fresh == before > 0
    assert walks[0] == walks[1]
    if name == "improver":
        assert walks[0] is None
    else:
        assert len(walks[0]) == 4 and set(walks[0]) <= set(range(2, 9))
        assert other.fresh > 0


@pytest.mark.parametrize("name", ["ppo", "maskable_ppo", "recurrent_ppo", "pretrained"])
def test_a_walk_takes_what_the_policy_finds_likeliest(name):
    agent = make(name, quick(name), Ledger())
    agent.model.policy.action_net.bias.data[3] += 1_000.0
    assert agent.walk(QuantizeNetEnv(task="synthetic-4-0")) == (5, 5, 5, 5)
    agent.close()


def test_a_walk_carries_the_state():
    class Model:
        def predict(self, observation, state, start, deterministic):
            assert deterministic and start == (state is None)
            state = 0 if state is None else state + 1
            return np.array([state]), state

    agent = make("recurrent_ppo", quick("recurrent_ppo"), Ledger())
    agent.model = Model()
    assert agent.walk(QuantizeNetEnv(task="synthetic-4-0")) == (2, 3, 4, 5)
    agent.close()


class Allowed(gym.Wrapper):
    """Takes only what the masks allow."""

    def step(self, action):
        assert self.get_wrapper_attr("action_masks")()[action]
        return self.env.step(action)


def test_a_walk_keeps_to_the_masks():
    agent = make("maskable_ppo", quick("maskable_ppo"), Ledger(), cost_budget={"cost": 0.4})
    agent.model.policy.action_net.bias.data[6] += 1_000.0
    env = QuantizeNetEnv(task="synthetic-4-0", cost_budget={"cost": 0.4})
    walk = agent.walk(Allowed(env))
    agent.close()
    assert env.problem.transition(walk, 0.5).cost <= 0.4 < env.problem.transition((8,) * 4, 0).cost


def weights(agent):
    return agent.model.policy.state_dict().values()


TAUGHT = {"pretrained", "improver"}
"""Agents that see what they were taught to see."""


@pytest.mark.parametrize("name", sorted(set(NAMES) - TAUGHT))
def test_it_sees_all_layers_where_that_is_asked_for(name, tmp_path):
    assert play(tmp_path / "log", name, quick(name), 10, observation="full")


@pytest.mark.parametrize("name", NAMES)
def test_help_lists_its_settings(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(["--agent", name, "--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(AGENTS[name].presets["default"].settings):
        assert f"--{field.name.replace('_', '-')}" in text
    assert all(other in text for other in NAMES)


def test_what_knows_the_masks_is_never_overruled(tmp_path):
    changed = {}
    for name in ("maskable_ppo", "ppo"):
        budget = {"cost": 0.4}
        episodes = play(tmp_path / name, name, quick(name), 60, cost_budget=budget)
        chosen = [[2 + action for action in episode["actions"]] for episode in episodes]
        executed = [episode["bitwidths"] for episode in episodes]
        whole = [not episode["cut"] for episode in episodes]
        changed[name] = sum(
            ours != theirs
            for ours, theirs, kept in zip(chosen, executed, whole, strict=True)
            if kept
        )
    assert changed["maskable_ppo"] == 0 < changed["ppo"]


@pytest.mark.parametrize("name", OF_SB3)
def test_exploration_keeps_to_its_bounds(name):
    agent = make(name, quick(name), Ledger())
    agent.learn(100, Looking(1_000))
    strengths = []
    for factor in (LESS, MORE):
        for _ in range(100):
            agent.explore(factor)
        strengths.append(strength(agent))
    agent.close()
    least, most = strengths
    assert 0 < least < most
    settings = agent.settings
    if hasattr(settings, "exploration"):
        assert (least, most) == (settings.least_exploration, settings.exploration)
    elif hasattr(settings, "ent_coef"):
        assert (least, most) == (settings.ent_coef, 0.5)


def test_exploration_never_falls_below_a_stated_weight():
    agent = make("ppo", dataclasses.replace(quick("ppo"), ent_coef=1.0), Ledger())
    for factor in (MORE, LESS):
        agent.explore(factor)
        assert strength(agent) == 1.0
    agent.close()


def strength(agent):
    """How much it explores; of TRPO, which has no number for it, how flat its policy is."""
    if hasattr(agent, "exploration"):
        return agent.exploration
    if hasattr(agent.settings, "ent_coef"):
        return agent.model.ent_coef
    return 1.0 / agent.model.policy.action_net.weight.abs().sum().item()


@pytest.mark.parametrize(("known", "factor"), [((10, 13), MORE), ((10, 16), LESS)])
def test_few_new_assignments_mean_more_exploration(known, factor):
    class Counting:
        distinct = known[0]

    ledger, factors = Counting(), []
    novelty = Novelty(ledger, 0.5, factors.append, window=10)
    for dones in (np.ones(4), np.zeros(4), np.ones(4), np.ones(4)):
        novelty.locals = {"dones": dones}
        novelty._on_step()
        novelty._on_rollout_end()
        ledger.distinct = known[1]
    assert factors == [factor]


@pytest.mark.parametrize("name", OF_SB3)
def test_settings_below_one_are_refused(name):
    settings = AGENTS[name].presets["default"].settings
    whole = [f.name for f in dataclasses.fields(settings) if type(getattr(settings, f.name)) is int]
    assert whole
    for field in whole:
        with pytest.raises(ValueError, match=f"{field}=0 has to be at least 1"):
            dataclasses.replace(settings, **{field: 0})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"n_envs": 0.5}, "n_envs=0.5 has to be at least 1, a whole number"),
        ({"learning_rate": True}, "learning_rate=True has to be a finite number, 0 or more"),
        ({"learning_rate": "1e-3"}, "learning_rate='1e-3' has to be a finite number"),
    ],
)
def test_settings_are_numbers_of_their_kind(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        PPOSettings(**fields)


def test_novelty_needs_an_entropy_to_strengthen():
    with pytest.raises(ValueError, match=r"novelty=0.3 is sought by .* ent_coef=0"):
        PPOSettings(ent_coef=0.0)
    PPOSettings(ent_coef=0, novelty=0)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"least_exploration": 2.0}, "least_exploration=2.0 is more than exploration=1.0"),
        ({"novelty": 0.0}, "novelty=0 leaves exploration as it is at the start"),
    ],
)
def test_exploration_that_never_falls_is_refused(fields, sentence):
    default = AGENTS["dqn"].presets["default"].settings
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(default, **fields)
    dataclasses.replace(default, novelty=0.0, exploration=0.1, least_exploration=0.1)


@pytest.mark.parametrize("name", ["dqn", "qr_dqn"])
def test_a_probability_of_a_random_bitwidth_is_at_most_1(name):
    settings = dataclasses.replace(AGENTS[name].presets["default"].settings, exploration=5.0)
    with pytest.raises(ValueError, match=r"exploration=5\.0 has to be at most 1"):
        make(name, settings, Ledger())


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo"])
def test_a_minibatch_of_a_single_step_does_no_harm(name):
    settings, ledger = quick(name), Ledger(100)
    agent = make(name, settings, ledger)
    steps = agent.rollout * agent.n_envs
    agent.close()
    minibatches = next(parts for parts in range(2, steps) if steps % -(-steps // parts) == 1)
    agent = make(name, dataclasses.replace(settings, minibatches=minibatches), ledger)
    learn_until_spent(agent, ledger, 2 * steps)
    assert all(bool(one.isfinite().all()) for one in agent.model.policy.parameters())
    agent.close()
