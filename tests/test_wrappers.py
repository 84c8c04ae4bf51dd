import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from toys import ToyEvaluator

from releq_gym.wrappers import ContinuousBitwidth, HardwareCost, Incumbent, OneShot

ID = "releq/QuantizeNet-v0"


def make(**options):
    return gym.make(ID, evaluator=ToyEvaluator(), **options)


def walk(env, actions, seed=0):
    """Observations, rewards and the last info of an episode."""
    observations, rewards = [env.reset(seed=seed)[0]], []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        if terminated or truncated:
            break
    return observations, rewards, info


def same(first, second):
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(first, second, strict=True)
    )


# HardwareCost


@pytest.mark.parametrize("reward", ["accuracy_floor", "releq", "lagrangian"])
def test_hardware_cost_does_what_the_keywords_do(reward):
    budget = {"microjoules": 0.0022}
    asked = {"weight_bits_per_cycle": 8}
    free = make(reward=reward, cost="weight_serial", cost_kwargs=asked)
    assert walk(free, [2, 2, 2])[2]["microjoules"] > 0.0022
    by_keyword = make(reward=reward, cost="weight_serial", cost_kwargs=asked, cost_budget=budget)
    wrapped = HardwareCost(make(reward=reward), "weight_serial", budget, asked)
    for actions in ([2, 2, 2], [0, 1, 2], [2, 0, 0]):
        for one, other in zip(walk(by_keyword, actions), walk(wrapped, actions), strict=True):
            if isinstance(one, dict):
                assert one == other and {"cycles", "milliseconds"} <= set(one)
                assert one["microjoules"] <= 0.0022
            else:
                assert same(one, other)
    assert wrapped.get_wrapper_attr("task") == by_keyword.get_wrapper_attr("task")


def test_hardware_cost_works_between_other_wrappers_and_after_pickling():
    inner = gym.wrappers.TransformReward(make(), lambda reward: 2 * reward)
    env = gym.wrappers.RecordEpisodeStatistics(HardwareCost(inner, "model_size", {"bytes": 80.0}))
    *_, info = walk(env, [2, 2, 2])
    assert info["bytes"] <= 80
    bare = pickle.loads(pickle.dumps(HardwareCost(make(), "model_size", {"bytes": 80.0})))
    assert walk(bare, [2, 2, 2])[2]["bytes"] == info["bytes"]


def test_hardware_cost_starts_anew_and_logs_what_it_changed(tmp_path):
    log = tmp_path / "log.jsonl"
    env = make(log=str(log))
    walk(env, [2, 2])
    env = HardwareCost(env, "model_size", {"bytes": 80.0})
    with pytest.raises(gym.error.ResetNeeded):
        env.unwrapped.step(0)
    walk(env, [0, 0, 0])
    records = [json.loads(line) for line in log.read_text().splitlines()]
    budgets = [record["task"]["cost_budget"] for record in records if "task" in record]
    assert budgets == [{}, {"bytes": 80.0}]
    assert [record["env"] for record in records if "actions" in record] == [0, 1]


def test_hardware_cost_over_several_nets():
    env = HardwareCost(gym.make(ID, net=["synthetic-5-any", "digits"]), "weighted_bitwidth")
    env.reset(seed=0, options={"net": "digits"})
    for net in ("digits", "synthetic-5-any"):
        _, info = env.reset(options={"net": net})
        assert info["bits_per_weight"] == pytest.approx(8)
        assert info["cost"] == pytest.approx(1)


def test_hardware_cost_over_several_nets_changes_all_or_none():
    limit = {"bits_per_weight": 4.0}
    nets = ["synthetic-5-any", "digits"]
    env = gym.make(ID, net=nets, cost="weighted_bitwidth", cost_budget=limit)
    with pytest.raises(ValueError, match="There is a cost_budget already"):
        HardwareCost(env, "model_size")
    for net in nets:
        _, info = env.reset(options={"net": net})
        assert "bytes" not in info and "bits_per_weight" in info


def test_hardware_cost_refuses_what_cannot_be():
    with pytest.raises(ValueError, match="least"):
        HardwareCost(make(), "model_size", {"bytes": 3.0})
    with pytest.raises(ValueError, match="Unknown figure in cost_budget 'byte'"):
        HardwareCost(make(), "model_size", {"byte": 80.0})
    with pytest.raises(ValueError, match="goes over a releq environment"):
        HardwareCost(gym.make("CartPole-v1"), "model_size")
    with pytest.raises(ValueError, match="Unknown cost"):
        HardwareCost(make(), "modelsize")
    with pytest.raises(ValueError, match="cost_kwargs=5 has to be a dict"):
        HardwareCost(make(), "model_size", cost_kwargs=5)
    for model, said in {
        "wrong signature": (lambda layers: {}, "cannot be called"),
        "no numbers": (lambda layers, bitwidths: {"ms": "x"}, "array of real numbers"),
        "no name": (lambda layers, bitwidths: {3: np.ones((3, 8))}, "has to have a name"),
    }.values():
        with pytest.raises(ValueError, match=said):
            HardwareCost(make(), model)
    with pytest.raises(ValueError, match="make_vec takes cost="):
        HardwareCost(gym.make_vec(ID, 2, vectorization_mode="sync", net="digits"), "model_size")
    limited = HardwareCost(make(), "model_size", {"bytes": 80.0})
    with pytest.raises(ValueError, match=r"cost_budget already, \{'bytes': 80.0\}"):
        HardwareCost(limited, "weight_serial")
    env = make()
    with pytest.raises(ValueError, match="least"):
        HardwareCost(env, "model_size", {"bytes": 3.0})
    assert walk(env, [2, 2, 2])[2]["cost"] == 1  # as it was


# ContinuousBitwidth


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
def test_continuous_bitwidth_cuts_the_interval_into_equal_parts():
    env = ContinuousBitwidth(make())
    check_env(env, skip_render_check=True)
    cases = {0.0: 2, 0.33: 2, 0.34: 4, 0.66: 4, 0.67: 8, 1.0: 8, -3.0: 2, 7.0: 8}
    for share, bitwidth in cases.items():
        env.reset(seed=0)
        info = env.step(np.array([share], np.float32))[4]
        assert info["executed_bitwidth"] == bitwidth


def test_continuous_bitwidth_is_haqs_rounding():
    env = ContinuousBitwidth(gym.make(ID, task="synthetic-4-0"))
    bitwidths = env.get_wrapper_attr("problem").bitwidths
    low, high = bitwidths[0] - 0.5, bitwidths[-1] + 0.5
    for share in np.random.default_rng(0).random(100):
        expected = int(np.round((high - low) * share + low))
        assert bitwidths[env.action(np.array([share]))] == expected


def test_continuous_bitwidth_refuses_what_it_cannot_round():
    env = ContinuousBitwidth(make())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="NaN"):
        env.action(np.array([np.nan], np.float32))
    with pytest.raises(ValueError, match="Discrete action space, not Box"):
        ContinuousBitwidth(env)


# OneShot


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.parametrize("observation", ["layer", "full"])
def test_one_shot_is_a_whole_episode(observation):
    env, step_by_step = OneShot(make(observation=observation)), make(observation=observation)
    check_env(env, skip_render_check=True)
    for actions in ([2, 2, 2], [0, 1, 2]):
        env.reset(seed=3)
        _, reward, terminated, truncated, info = env.step(np.array(actions))
        _, rewards, expected = walk(step_by_step, actions, seed=3)
        assert reward == sum(rewards) and terminated and not truncated
        assert info == expected


def test_one_shot_keeps_budgets():
    env = OneShot(make(cost="model_size", cost_budget={"bytes": 80.0}, evaluation_budget=1))
    env.reset(seed=0)
    *_, info = env.step(np.array([2, 2, 2]))
    assert info["bytes"] <= 80
    env.reset()
    _, reward, terminated, truncated, info = env.step(np.array([0, 0, 0]))
    assert truncated and not terminated and reward == 0 and not info["evaluated"]


def test_one_shot_begins_anew_after_an_action_that_was_refused_on_its_way():
    env = OneShot(make(cost="model_size", cost_budget={"bytes": 50.0}, on_masked="raise"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="would break the cost budget"):
        env.step(np.array([0, 2, 0]))
    with pytest.raises(ResetNeeded, match="refused on its way"):
        env.step(np.array([1, 0, 1]))
    env.reset()
    assert env.step(np.array([1, 0, 1]))[-1]["bitwidths"] == (4, 2, 4)


def test_one_shot_masks_say_what_each_step_may_take():
    env = OneShot(make(cost="model_size", cost_budget={"bytes": 50.0}))
    # 12 scale bytes; 10, 70 and 20 weights: at 2 bits 26 bytes in all, 12 left.
    masks = env.action_masks().reshape(3, 3)
    assert masks.tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    assert OneShot(make()).action_masks().all()


def test_one_shot_refuses_what_has_no_single_step():
    with pytest.raises(ValueError, match="on one network"):
        OneShot(gym.make(ID, net=["synthetic-5-0", "digits"]))
    with pytest.raises(ValueError, match="use evaluate='final'"):
        OneShot(make(evaluate="every_step"))
    with pytest.raises(ValueError, match="Discrete action space, not Box"):
        OneShot(ContinuousBitwidth(make()))
    with pytest.raises(ValueError, match="use one of the two"):
        OneShot(Incumbent(make()))
    env = OneShot(make())
    env.reset(seed=0)
    for action in ([0, 0], [0, 0, 3], [0.5, 0, 0]):
        with pytest.raises(ValueError, match="one index into the bitwidths per step"):
            env.step(np.array(action))


# Incumbent


@pytest.mark.parametrize(("net", "limit"), [("lenet", 0.2), ("resnet20", 0.3)])
def test_changes_always_leave_something_that_a_budget_admits(net, limit):
    inner = gym.make(
        "releq/QuantizeNet-v0", net=net, cost_budget={"cost": limit}, on_masked="raise"
    )
    env, rng = Incumbent(inner, walks=5), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(300):
        action = int(rng.choice(np.flatnonzero(env.action_masks())))
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            assert info["cost"] <= limit + 1e-9
            env.reset()


SAME, LOWER = 3, 2
"""Actions of `Incumbent`: no change, one place down."""


def searching(walks=None, **options):
    """The toy, whose choice is 2, 4 and 8 bits and which tolerates 1 point."""
    evaluator = ToyEvaluator()
    evaluator.max_loss_points, evaluator.repeats = 1.0, 1
    return Incumbent(gym.make(ID, evaluator=evaluator, **options), walks)


def shown(env, observation):
    return dict(zip(env.feature_names, observation.tolist(), strict=True))


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.parametrize("options", [{"net": "lenet"}, {"task": "synthetic-8-0"}])
def test_incumbent_is_an_environment(options):
    check_env(Incumbent(gym.make(ID, **options), walks=3), skip_render_check=True)


def test_incumbent_changes_the_best_so_far():
    env = searching(walks=4)
    observation, _ = env.reset(seed=0)
    assert shown(env, observation)["incumbent_bitwidth"] == 4 / 8  # the nearest to 5 bits
    assert shown(env, observation)["first"] == 1.0
    _, _, info, _ = steps(env, [SAME] * 3)
    assert info["bitwidths"] == (4, 4, 4)  # nothing is lost, so it is the incumbent
    _, _, info, _ = steps(env, [SAME, SAME, LOWER])
    assert info["bitwidths"] == (4, 4, 2) and info["loss_points"] == pytest.approx(10)
    _, _, info, _ = steps(env, [LOWER, SAME, 6])
    assert info["bitwidths"] == (2, 4, 8)  # from 4, 4, 4 still: the last walk lost too much
    _, over, info, _ = steps(env, [0, 0, 0])
    assert info["bitwidths"] == (2, 2, 2) and over


def test_a_better_walk_becomes_the_incumbent():
    env = searching()
    env.reset(seed=0)
    assert steps(env, [6] * 3)[2]["bitwidths"] == (8, 8, 8)
    assert steps(env, [SAME] * 3)[2]["bitwidths"] == (8, 8, 8)
    assert steps(env, [LOWER, SAME, LOWER])[2]["bitwidths"] == (4, 8, 4)
    assert steps(env, [SAME] * 3)[2]["bitwidths"] == (4, 8, 4)


def test_incumbent_pays_what_a_walk_adds_to_the_best():
    env = searching(walks=3)
    env.reset(seed=0)
    assert env.best == 0.0  # all layers at 8 bits
    rewards, _, info, _ = steps(env, [SAME] * 3)
    assert rewards == pytest.approx([0, 0, 1 - info["cost"]])
    assert env.best == pytest.approx(1 - info["cost"])
    rewards, *_ = steps(env, [SAME, LOWER, SAME])
    assert rewards == [0, 0, 0]
    rewards, over, *_ = steps(env, [6, SAME, SAME])  # dearer
    assert rewards == [0, 0, 0] and over
    env.reset()
    assert env.best == 0.0


def test_incumbent_is_as_cautious_as_the_ledger():
    env = Incumbent(gym.make(ID, net="lenet", evaluation_budget=40))
    env.reset(seed=0)
    env.action_space.seed(0)
    truncated = False
    while not truncated:
        _, _, _, truncated, _ = env.step(env.action_space.sample())
    problem = env.get_wrapper_attr("problem")
    answer = env.get_wrapper_attr("ledger").best(problem)
    assert env.best == problem.rank(answer.bitwidths, answer.accuracy)[0]


def test_incumbent_remembers_what_walks_were_worth():
    env = searching()
    env.reset(seed=0)
    steps(env, [SAME] * 3)
    observation = steps(env, [SAME, LOWER, LOWER])[3]
    seen = shown(env, observation)
    assert seen["blame"] == seen["praise"] == 0.0  # the first layer was not lowered
    assert seen["last_failed"] == 1.0 and seen["last_loss"] == pytest.approx(
        0.5 + np.log10((20 + 100 * np.sqrt(0.2 / 1000) + 0.02) / 1.02) / 4
    )
    assert seen["incumbent_loss"] < 0.5 and seen["incumbent_cost"] > seen["last_cost"]
    observation, *_ = env.step(SAME)
    seen = shown(env, observation)
    assert seen["blame"] == pytest.approx(1 / np.sqrt(2)) and seen["praise"] == 0.0
    assert (seen["last_bitwidth"], seen["kept_bitwidth"]) == (2 / 8, 4 / 8)
    assert seen["changed"] == 0.5
    observation, *_ = env.step(6)
    assert shown(env, observation)["changed"] > 0.5


def test_incumbent_keeps_to_groups_and_budgets():
    env = searching(groups=[["first", "last"]])
    env.reset(seed=0)
    _, _, info, _ = steps(env, [6, SAME])
    assert info["bitwidths"] == (8, 4, 8)
    env = searching(cost="model_size", cost_budget={"bytes": 50.0})
    env.reset(seed=0)
    # All begin at 4 bits, but the first layer's 8 and 2 bits are within reach as well.
    assert env.action_masks().tolist() == [True] * 7
    env.step(SAME)
    assert env.action_masks().tolist() == [True, True, True, False, False, False, False]
    *_, info = env.step(SAME)
    assert info["executed_bitwidth"] == 2


def test_incumbent_ends_with_the_evaluation_budget():
    env = searching(evaluation_budget=1)
    env.reset(seed=0)
    assert not steps(env, [SAME] * 3)[1]
    env.step(SAME)
    env.step(SAME)
    _, reward, terminated, truncated, _ = env.step(LOWER)
    assert truncated and not terminated and reward == 0


def test_incumbent_refuses_what_it_cannot_search():
    with pytest.raises(ValueError, match="on one network"):
        Incumbent(gym.make(ID, net=["synthetic-5-0", "digits"]))
    with pytest.raises(ValueError, match="use evaluate='final'"):
        searching(evaluate="every_step")
    with pytest.raises(ValueError, match="such as observation='layer'"):
        searching(observation="full")
    with pytest.raises(ValueError, match=r"has the shape \(\d+,\) and is of all"):
        Incumbent(gym.wrappers.FlattenObservation(make(observation="full")))
    with pytest.raises(ValueError, match="changes a Discrete action"):
        Incumbent(ContinuousBitwidth(make()))
    with pytest.raises(ValueError, match="walks=0"):
        searching(walks=0)
    env = searching()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="none of the changes 0 to 6"):
        env.step(7)


def steps(env, actions):
    """Rewards, whether the episode ended, the last info and observation."""
    rewards = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
    return rewards, terminated or truncated, info, observation


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: HardwareCost(env, "model_size", {"bytes": 8e4}),
        ContinuousBitwidth,
        OneShot,
        lambda env: Incumbent(env, walks=3),
    ],
)
def test_the_specification_of_a_wrapped_environment_survives_json(wrap):
    env = wrap(gym.make(ID, net="digits"))
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert type(again) is type(env) and again.action_space == env.action_space
    assert again.get_wrapper_attr("task") == env.get_wrapper_attr("task")


def test_incumbent_needs_a_reset_and_the_bitwidths_themselves():
    env = searching(walks=1)
    with pytest.raises(gym.error.ResetNeeded, match="before the first step"):
        env.step(SAME)
    assert env.action_masks().all()
    env.reset(seed=0)
    steps(env, [SAME] * 3)
    with pytest.raises(gym.error.ResetNeeded, match="episode is over"):
        env.step(SAME)
    seven = gym.make(ID, task="synthetic-4-0")  # as many bitwidths as there are changes
    for env in (searching(), Incumbent(seven)):
        with pytest.raises(ValueError, match="directly over the environment"):
            Incumbent(env)
    for walks in (1.5, "3", True):
        with pytest.raises(ValueError, match="has to be a whole number"):
            searching(walks=walks)


def test_incumbent_goes_by_the_loss_that_the_reward_tolerates():
    floor = {"max_loss_points": 100.0}
    env = Incumbent(gym.make(ID, task="synthetic-4-0", reward_kwargs=floor), walks=2)
    env.reset(seed=0)
    for _ in range(4):
        observation, *_ = env.step(0)  # as few bits as there are
    shown = dict(zip(env.feature_names, observation, strict=True))
    assert env.unwrapped.problem.max_loss_points == 100.0
    assert not shown["last_failed"] and shown["kept_bitwidth"] < 1
