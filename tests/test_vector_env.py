import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from toys import ToyEvaluator, toy_task

from releq_gym import Ledger, UnknownNameError
from releq_gym.evaluators.base import ManyEvaluations
from releq_gym.noise import first_repeat, first_repeats
from releq_gym.rewards import REWARDS
from releq_gym.vector_env import QuantizeNetVectorEnv

ID = "releq/QuantizeNet-v0"
MODES = [mode.value for mode in AutoresetMode]


def equal(first, second):
    """Arrays, and dicts of them, entry by entry."""
    if isinstance(second, dict):
        assert first.keys() == second.keys()
        for key in second:
            equal(first[key], second[key])
    else:
        np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-15)


def masked(infos):
    """Only what the masks say is there, as plain arrays or lists of observations."""
    kept = {}
    for key, value in infos.items():
        if key.startswith("_"):
            kept[key] = value
        elif key == "final_info":
            kept[key] = masked(value)
        else:
            rows = np.flatnonzero(infos[f"_{key}"])
            kept[key] = {int(row): entry(value, row) for row in rows}
    return kept


def entry(value, row):
    """What a (possibly dict-valued) info says of one environment."""
    if isinstance(value, dict):
        return {key: part[row] for key, part in value.items()}
    return value[row]


def walk_beside(options, mode, steps, num_envs=5, seed=3):
    """Vector environment and single environments on the same random actions."""
    vector = QuantizeNetVectorEnv(num_envs, mode, **options)
    single = SyncVectorEnv(
        [lambda: gym.make(ID, **options)] * num_envs, autoreset_mode=AutoresetMode(mode)
    )
    rng = np.random.default_rng(0)
    seen, expected = vector.reset(seed=seed), single.reset(seed=seed)
    for step in range(steps):
        equal(seen[0], expected[0])
        equal(masked(seen[-1]), masked(expected[-1]))
        if step:
            for got, wanted in zip(seen[1:4], expected[1:4], strict=True):
                equal(got, wanted)
            over = expected[2] | expected[3]
            if mode == "Disabled" and over.any():
                seen = vector.reset(options={"reset_mask": over})
                expected = single.reset(options={"reset_mask": over})
                equal(seen[0], expected[0])
        actions = rng.integers(vector.single_action_space.n, size=num_envs)
        seen, expected = vector.step(actions), single.step(actions)


OPTIONS = [
    {"task": "synthetic-6-1"},
    {
        "task": "synthetic-6-1",
        "observation": "paper",
        "reward": "releq",
        "reward_timing": "every_step",
    },
    {"task": "synthetic-5-1", "observation": "full", "reward": "releq_code"},
    {"task": "synthetic-5-1", "reward": "ratio", "reward_timing": "telescoped", "gamma": 0.9},
    {"task": "synthetic-5-1", "cost_budget": {"cost": 0.4}, "evaluate": "every_step"},
    {"task": "synthetic-5-1", "fixed_bitwidths": {"layer1": 8}, "reward": "difference"},
    {"task": "synthetic-6-1", "groups": [["layer4", "layer0"], ["layer1", "layer2", "layer5"]]},
    {
        "task": "synthetic-6-1",
        "groups": [["layer5", "layer1"]],
        "fixed_bitwidths": {"layer3": 4},
        "cost_budget": {"cost": 0.4},
        "reward_timing": "every_step",
        "observation": "full",
    },
    {"groups": [["conv1", "fc2"]], "observation": "paper"},
    {"reward": "lagrangian", "reward_timing": "every_step"},
    {"noise": "mean"},
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", OPTIONS, ids=json.dumps)
def test_equal_to_single_environments_step_by_step(options, mode):
    walk_beside(options, mode, steps=60)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reward", REWARDS.names())
@pytest.mark.parametrize("net", ["lenet", "svhn10"])
def test_equal_on_a_table_and_a_surrogate_under_every_reward(net, reward, mode):
    """36 times 2,800 steps, a hundred thousand in all."""
    options = {"net": net, "reward": reward, "evaluate": "every_step"}
    walk_beside(options, mode, steps=70, num_envs=40)


def test_equal_over_many_noisy_visits(tmp_path):
    folder = toy_task(tmp_path / "task")
    walk_beside({"task": str(folder), "reward_timing": "every_step"}, "SameStep", steps=300)


def test_a_reward_that_is_any_callable_is_called_on_each():
    def reward(transition):
        assert isinstance(transition.bitwidths, tuple)
        return -transition.weighted_bitwidth if transition.loss_points < 5 else -10.0

    walk_beside({"task": "synthetic-5-1", "reward": reward}, "SameStep", steps=40)


def test_an_evaluator_that_answers_one_at_a_time_serves_too():
    walk_beside({"evaluator": ToyEvaluator()}, "SameStep", steps=40)


def test_gymnasium_makes_it():
    envs = gym.make_vec(ID, 4, vectorization_mode="vector_entry_point", net="synthetic")
    assert isinstance(envs.unwrapped, QuantizeNetVectorEnv)
    observations, infos = envs.reset(seed=0)
    assert observations in envs.observation_space
    assert infos["bitwidths"].shape == (4, 20)
    frozen = gym.make_vec("releq/Synthetic20-v0", 3, vectorization_mode="vector_entry_point")
    frozen.reset(seed=0)
    frozen.step(frozen.action_space.sample())
    with pytest.raises(ValueError, match="frozen, so 'reward'"):
        gym.make_vec(
            "releq/Synthetic20-v0", 3, vectorization_mode="vector_entry_point", reward="ratio"
        )


def test_the_evaluation_budget_is_first_come_first_served():
    ledger = Ledger(evaluation_budget=2)
    envs = QuantizeNetVectorEnv(4, "Disabled", evaluator=ToyEvaluator(), ledger=ledger)
    envs.reset(seed=0)
    for actions in ([0, 0, 1, 2], [0, 0, 1, 2]):
        envs.step(actions)
    _, rewards, terminated, truncated, infos = envs.step([0, 0, 1, 2])
    # The first two ask for the same assignment, which is paid once.
    assert terminated.tolist() == [True, True, True, False]
    assert truncated.tolist() == [False, False, False, True]
    assert rewards[3] == 0 and not infos["evaluated"][3]
    assert ledger.distinct == 2 and ledger.fresh == 3


@pytest.mark.parametrize("budget", [{"distinct": 7}, {"fresh": 9}])
def test_budgets_cut_as_in_single_environments(budget):
    def make(ledger):
        return lambda: gym.make(ID, task="synthetic-4-0", ledger=ledger, evaluate="every_step")

    ledger = Ledger(budget)
    vector = QuantizeNetVectorEnv(
        3, "NextStep", task="synthetic-4-0", ledger=Ledger(budget), evaluate="every_step"
    )
    single = SyncVectorEnv([make(ledger)] * 3)
    rng = np.random.default_rng(0)
    vector.reset(seed=0)
    single.reset(seed=0)
    for _ in range(12):
        actions = rng.integers(7, size=3)
        for got, wanted in zip(vector.step(actions)[:4], single.step(actions)[:4], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert vector.ledger.distinct == ledger.distinct
    assert vector.ledger.fresh == ledger.fresh


def test_charges_and_the_answer_are_those_of_single_environments():
    vector = QuantizeNetVectorEnv(3, evaluator=ToyEvaluator(), reward_kwargs={"max_loss_points": 1})
    vector.reset(seed=0)
    for actions in ([1, 1, 0], [1, 2, 0], [1, 1, 0]) * 2:
        vector.step(actions)
    ledger = vector.ledger
    assert ledger.fresh == 6 and ledger.distinct == 3
    answer = ledger.best(vector.problem)
    assert answer.bitwidths == (4, 4, 4) and answer.repeats == 2
    assert list(ledger.cells(vector.problem)) == [(4, 4, 4), (4, 8, 4), (2, 2, 2)]


@pytest.mark.parametrize("groups", [None, [["first", "last"]]])
def test_action_log_is_that_of_single_environments(tmp_path, groups):
    logs = tmp_path / "vector.jsonl", tmp_path / "single.jsonl"
    vector = QuantizeNetVectorEnv(
        2, evaluator=ToyEvaluator(), groups=groups, ledger=Ledger(log=logs[0])
    )
    ledger = Ledger(log=logs[1])
    single = SyncVectorEnv(
        [lambda: gym.make(ID, evaluator=ToyEvaluator(), groups=groups, ledger=ledger)] * 2,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    for envs in (vector, single):
        envs.reset(seed=4)
        for actions in ([0, 1], [1, 1], [2, 1], [0, 0]):
            envs.step(np.array(actions))
        envs.close()
    texts = [sorted(log.read_text().splitlines()) for log in logs]
    assert texts[0] == texts[1] and len(texts[0]) == 6
    assert ('"bitwidths":[2,4,2]' in texts[0][0]) == (groups is not None)


def test_action_masks_are_those_of_single_environments():
    options = {"evaluator": ToyEvaluator(), "cost_budget": {"cost": 0.5}}
    vector = QuantizeNetVectorEnv(2, "Disabled", **options)
    single = [gym.make(ID, **options) for _ in range(2)]
    vector.reset(seed=0)
    for env in single:
        env.reset(seed=0)
    for actions in ([0, 2], [2, 2], [1, 1]):
        masks = [env.get_wrapper_attr("action_masks")() for env in single]
        assert (vector.action_masks() == np.array(masks)).all()
        vector.step(actions)
        for env, action in zip(single, actions, strict=True):
            env.step(action)
    assert vector.action_masks().all()


def test_array_hash_equals_the_scalar_one():
    rng = np.random.default_rng(0)
    seeds, indices = rng.integers(2**64, size=(2, 500), dtype=np.uint64)
    scalar = [first_repeat(int(s), int(i), 10) for s, i in zip(seeds, indices, strict=True)]
    assert first_repeats(seeds, indices, 10).tolist() == scalar


def test_wrong_use_gets_a_sentence():
    with pytest.raises(ValueError, match="vectorization_mode='sync'"):
        gym.make_vec(ID, 2, vectorization_mode="vector_entry_point", evaluator="live")
    with pytest.raises(ValueError, match="draws nothing"):
        QuantizeNetVectorEnv(2, render_mode="ansi", net="synthetic")
    with pytest.raises(UnknownNameError, match="Did you mean 'SameStep'"):
        QuantizeNetVectorEnv(2, "same_step", net="synthetic")
    with pytest.raises(UnknownNameError, match="Did you mean 'autoreset_mode'"):
        QuantizeNetVectorEnv(2, autoreset="Disabled", net="synthetic")
    with pytest.raises(ValueError, match="at least 1"):
        QuantizeNetVectorEnv(0, net="synthetic")
    envs = QuantizeNetVectorEnv(2, "Disabled", evaluator=ToyEvaluator())
    with pytest.raises(ResetNeeded, match="before the first step"):
        envs.step([0, 0])
    with pytest.raises(ResetNeeded, match="before the first reset_mask"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    envs.reset(seed=[1, 2])
    for actions in ([0, 3], [0], [0.5, 0.5], [-1, 0]):
        with pytest.raises(ValueError, match="2 integers from 0 to 2"):
            envs.step(actions)
    with pytest.raises(ValueError, match="as many seeds"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset_mask must be"):
        envs.reset(options={"reset_mask": np.array([False, False])})
    with pytest.raises(UnknownNameError, match="reset option 'net'"):
        envs.reset(options={"net": "x"})
    for _ in range(3):
        envs.step([0, 0])
    with pytest.raises(ResetNeeded, match="reset them by reset_mask"):
        envs.step([0, 0])


@pytest.mark.parametrize("options", [{"net": ["digits", "lenet"]}, {"task": "synthetic-20-any"}])
def test_another_net_in_each_episode_is_for_synchronous_environments(options):
    with pytest.raises(ValueError, match="walks over one net; for several use"):
        QuantizeNetVectorEnv(2, **options)


def test_seeds_are_whole_numbers_of_any_kind():
    envs = QuantizeNetVectorEnv(2, evaluator=ToyEvaluator(), ledger=Ledger())
    envs.reset(seed=np.array([1, 2]))
    for wrong in ([-1, 3], [0.5, 3], [True, 3]):
        with pytest.raises(ValueError, match=r"seed .* has to be a whole number, 0 or more"):
            envs.reset(seed=wrong)


class Reusing(ToyEvaluator):
    """Answers in one array that it writes anew each time."""

    repeats = 1

    def __init__(self):
        self.answers = np.zeros(2)

    def evaluate_many(self, bitwidths, repeats):
        answers = [self.evaluate(row, 0).accuracy for row in bitwidths.tolist()]
        self.answers[:] = answers
        nothing = np.zeros(2)
        return ManyEvaluations(self.answers, nothing, nothing.astype(bool))


def test_the_ledger_keeps_what_was_answered():
    env = QuantizeNetVectorEnv(2, evaluator=Reusing())
    env.reset()
    for actions in [[2, 0]] * 3 + [[0, 2]] * 3:
        env.step(np.array(actions))
    cells = env.ledger.cells(env.problem)
    assert cells[8, 8, 8].accuracy == pytest.approx(0.9)
    assert cells[2, 2, 2].accuracy == pytest.approx(0.6)


@pytest.mark.parametrize("mode", MODES)
def test_after_a_failed_measurement_comes_a_reset(monkeypatch, tmp_path, mode):
    log = tmp_path / "log.jsonl"
    env = QuantizeNetVectorEnv(2, evaluator=ToyEvaluator(), autoreset_mode=mode, log=log)
    env.reset()
    actions = np.ones(2, dtype=int)
    env.step(actions), env.step(actions)

    def fail(self, bitwidths, repeat):
        raise RuntimeError("interrupted")

    with monkeypatch.context() as patched:
        patched.setattr(ToyEvaluator, "evaluate", fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            env.step(actions)
    with pytest.raises(ResetNeeded, match="failed while it measured"):
        env.step(actions)
    with pytest.raises(ResetNeeded, match="failed while it measured"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset()
    env.step(actions), env.step(actions)
    assert env.step(actions)[2].all()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    cut = [line for line in lines if line.get("cut") and line["actions"]]
    assert [line["bitwidths"] for line in cut] == [[4, 4, 8]] * 2
    whole = [line for line in lines if "actions" in line and not line["cut"]]
    assert None not in [line["seed"] for line in whole]  # drawn anew: visits were counted


def test_a_refused_step_leaves_those_that_are_over_to_the_next_one():
    env = QuantizeNetVectorEnv(
        2,
        "NextStep",
        evaluator=ToyEvaluator(),
        evaluate="every_step",
        evaluation_budget=1,
        cost_budget={"cost": 0.3},
        on_masked="raise",
    )
    env.reset()
    over = env.step([0, 1])[3]
    assert over.tolist() == [False, True]
    with pytest.raises(ValueError, match="1 actions would break"):
        env.step([2, 0])
    _, _, _, over, info = env.step([0, 0])
    assert info["executed_bitwidth"].tolist() == [2, 0]


@pytest.mark.parametrize("count", [0, 2.5])
def test_a_number_of_environments_is_whole(count):
    with pytest.raises(ValueError, match=rf"num_envs={count} has to be a whole number, at least 1"):
        QuantizeNetVectorEnv(count, net="digits")


@pytest.mark.parametrize("returned", ["x", np.ones(1)])
def test_a_reward_that_is_no_number_is_a_sentence(returned):
    envs = gym.make_vec(
        "releq/QuantizeNet-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        net="digits",
        reward=lambda transition: returned,
        reward_timing="every_step",
    )
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="for 3 transitions; it must return a finite number"):
        for _ in range(4):
            envs.step(envs.action_space.sample())
