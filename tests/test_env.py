import copy
import inspect
import json
import pickle
import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from toys import ToyEvaluator, toy_task

from releq_gym import Ledger, UnknownNameError
from releq_gym.env import QuantizeNetEnv
from releq_gym.replay import read_revealed
from releq_gym.tasks import FROZEN

ID = "releq/QuantizeNet-v0"


def toy_env(**options):
    options.setdefault("reward_kwargs", {"max_loss_points": 1.0} if "reward" not in options else {})
    return gym.make(ID, evaluator=ToyEvaluator(), **options)


def walk(env, actions, seed=None):
    """Rewards, last info and how it ended."""
    _, info = env.reset(seed=seed)
    rewards = []
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        if terminated or truncated:
            break
    return rewards, info, (terminated, truncated)


ENVIRONMENTS = [
    {},
    {"net": "synthetic"},
    {"net": "synthetic", "observation": "full"},
    {"net": "synthetic", "observation": "paper", "reward": "releq", "reward_timing": "telescoped"},
    {"task": "synthetic-6-1", "cost_budget": {"cost": 0.5}, "evaluate": "every_step"},
    {"noise": "mean", "fixed_bitwidths": {"conv1": 8}, "reward_timing": "every_step"},
    {"net": "synthetic", "groups": [["layer0", "layer7"], ["layer3", "layer2", "layer19"]]},
    {"groups": [["conv1", "fc1"]], "observation": "full", "reward_timing": "every_step"},
]


@pytest.mark.parametrize("options", ENVIRONMENTS, ids=json.dumps)
def test_both_checkers_pass_without_a_warning(options):
    check_env(gym.make(ID, **options).unwrapped)
    if options.get("observation") != "full":  # SB3 warns of any matrix that is no picture
        sb3 = pytest.importorskip("stable_baselines3.common.env_checker")
        sb3.check_env(gym.make(ID, **options))


@pytest.mark.parametrize("frozen_id", FROZEN)
def test_frozen_ids_pass_the_checker_and_refuse_other_keywords(frozen_id):
    check_env(gym.make(frozen_id).unwrapped)
    gym.make(frozen_id, evaluation_budget=5, render_mode="ansi")
    with pytest.raises(ValueError, match=r"frozen, so 'reward' cannot be changed"):
        gym.make(frozen_id, reward="ratio")


@pytest.mark.parametrize("options", ENVIRONMENTS, ids=json.dumps)
def test_two_envs_with_one_seed_agree_step_by_step(options):
    first, second = gym.make(ID, **options), gym.make(ID, **options)
    rng = np.random.default_rng(0)
    for episode in range(20):
        seed = 7 if episode == 0 else None
        assert data_equivalence(first.reset(seed=seed), second.reset(seed=seed))
        over = False
        while not over:
            action = int(rng.integers(first.action_space.n))
            one, two = first.step(action), second.step(action)
            assert data_equivalence(one, two)
            over = one[2] or one[3]


def test_an_episode_walks_the_layers_once():
    env = toy_env()
    rewards, info, ended = walk(env, [0, 1, 2], seed=0)
    assert info["bitwidths"] == (2, 4, 8)
    assert ended == (True, False)
    assert rewards[:2] == [0.0, 0.0]


def test_a_group_is_decided_in_one_step_at_its_first_layer():
    env = toy_env(groups=[["first", "last"]])
    env.reset(seed=0)
    _, _, terminated, _, info = env.step(0)
    assert info["bitwidths"] == (2, 8, 2) and not terminated
    assert info["average_bitwidth"] == 4
    assert info["weighted_bitwidth"] == pytest.approx((30 * 2 + 70 * 8) / 100)
    _, _, terminated, _, info = env.step(1)
    assert info["bitwidths"] == (2, 4, 2) and terminated
    assert list(env.unwrapped.ledger.cells(env.unwrapped.problem)) == [(2, 4, 2)]


def test_groups_keep_a_cost_budget_and_masks_name_them():
    env = toy_env(groups=[["middle", "last"]], cost_budget={"cost": 0.4}, on_masked="raise")
    env.reset(seed=0)
    env.step(2)
    masks = env.get_wrapper_attr("action_masks")()
    assert masks.tolist() == [True, False, False]
    with pytest.raises(ValueError, match=r"4 bits in layer 'middle \+ 1' would break"):
        env.step(1)


def test_reset_reveals_and_charges_nothing():
    env = toy_env()
    _, info = env.reset(seed=0)
    assert not info["evaluated"]
    assert info["accuracy"] == 0.9 and info["relative_accuracy"] == 1
    assert info["bitwidths"] == (8, 8, 8) and info["cost"] == 1
    assert env.unwrapped.ledger.fresh == 0


def test_final_timing_measures_once():
    env = toy_env()
    walk(env, [2, 2, 2])
    assert env.unwrapped.ledger.fresh == 1


def test_every_step_measures_with_undecided_layers_at_the_maximum():
    env = toy_env(reward="difference", reward_timing="every_step", noise="mean")
    rewards, info, _ = walk(env, [1, 1, 0])
    importance = np.array([1300, 8500, 2700])
    costs = [importance @ b / (8 * importance.sum()) for b in ([4, 8, 8], [4, 4, 8], [4, 4, 2])]
    accuracies = [1.0, 1.0, 0.8 / 0.9]
    assert rewards == pytest.approx(np.array(accuracies) - costs)
    assert env.unwrapped.ledger.fresh == 3
    assert info["loss_points"] == pytest.approx(10)


def test_measuring_every_step_may_go_with_a_final_reward():
    env = toy_env(evaluate="every_step")
    rewards, _, _ = walk(env, [1, 1, 1])
    assert rewards[:2] == [0, 0]
    assert rewards[2] == pytest.approx(0.5)
    assert env.unwrapped.ledger.fresh == 3


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_telescoped_return_is_the_final_reward(gamma):
    final = toy_env(reward="ratio", noise="mean")
    dense = toy_env(reward="ratio", noise="mean", reward_timing="telescoped", gamma=gamma)
    target = walk(final, [0, 2, 1])[0][-1]
    rewards = walk(dense, [0, 2, 1])[0]
    discounted = sum(reward * gamma**step for step, reward in enumerate(rewards))
    assert discounted == pytest.approx(gamma ** len(rewards) * target)


def test_repeats_come_round_robin_from_a_seeded_start():
    env = toy_env()
    seen = [
        walk(env, [2, 2, 2], seed=3 if visit == 0 else None)[1]["accuracy"] for visit in range(8)
    ]
    assert len(set(seen[:4])) == 4
    assert seen[4:] == seen[:4]
    assert walk(env, [2, 2, 2], seed=3)[1]["accuracy"] == seen[0]
    starts = {walk(env, [2, 2, 2], seed=seed)[1]["accuracy"] for seed in range(30)}
    assert len(starts) == 4


def test_other_queries_do_not_change_the_order_of_repeats():
    env, other = toy_env(), toy_env()
    env.reset(seed=1)
    other.reset(seed=1)
    walk(other, [0, 0, 0])
    assert walk(env, [2, 2, 2])[1]["accuracy"] == walk(other, [2, 2, 2])[1]["accuracy"]


def test_planners_copies_go_their_own_way_on_one_ledger():
    env = toy_env()
    env.reset(seed=0)
    env.step(2)
    twin = copy.deepcopy(env)
    twin.step(0)
    twin.step(0)
    _, _, terminated, _, info = [env.step(2) for _ in range(2)][-1]
    assert terminated and info["bitwidths"] == (8, 8, 8)
    assert env.unwrapped.ledger.fresh == 2
    assert twin.unwrapped.ledger is env.unwrapped.ledger


def test_pickling_in_mid_episode():
    env = gym.make(ID, net="synthetic")
    env.reset(seed=0)
    env.step(3)
    twin = pickle.loads(pickle.dumps(env))
    assert data_equivalence(env.step(2), twin.step(2))


def test_spec_round_trips_through_json():
    env = gym.make(
        ID,
        task="synthetic-5-3",
        reward="releq",
        reward_kwargs={"a": 0.3},
        groups=[["layer0", "layer2"]],
    )
    twin = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert twin.unwrapped.task == env.unwrapped.task


def test_async_vector_env_spawned():
    envs = gym.make_vec(
        f"releq_gym:{ID}",
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
        net="synthetic",
    )
    observations, _ = envs.reset(seed=0)
    assert observations.shape[0] == 2
    envs.step(envs.action_space.sample())
    envs.close()


def test_masked_action_becomes_the_nearest_allowed_lower_one():
    env = toy_env(cost_budget={"cost": 0.5})
    env.reset(seed=0)
    for _ in range(3):
        mask = env.get_wrapper_attr("action_masks")()
        action = int(np.flatnonzero(~mask)[-1]) if not mask.all() else 2
        _, _, _, _, info = env.step(action)
        chosen = env.unwrapped.problem.bitwidths.index(info["executed_bitwidth"])
        lower = np.flatnonzero(mask[: action + 1])
        assert chosen == lower[-1]
    assert info["cost"] <= 0.5


def test_masked_action_may_raise():
    env = toy_env(cost_budget={"cost": 0.3}, on_masked="raise")
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(ValueError, match=r"8 bits in layer 'middle' would break the cost budget"):
        env.step(2)


def test_no_budget_masks_nothing():
    env = toy_env()
    env.reset(seed=0)
    assert env.get_wrapper_attr("action_masks")().all()


def test_masks_are_the_callers_own():
    env = toy_env(cost_budget={"cost": 0.3}).unwrapped
    env.reset()
    before = env.action_masks()
    env.action_masks()[:] = ~before
    assert env.action_masks().tolist() == before.tolist()
    chosen = env.step(2)[-1]["executed_bitwidth"]
    assert chosen == env.problem.bitwidths[np.flatnonzero(before)[-1]]


def test_a_spent_evaluation_budget_truncates_and_reveals_nothing():
    env = toy_env(evaluation_budget=2)
    walk(env, [2, 2, 2], seed=0)
    walk(env, [1, 1, 1], seed=1)
    rewards, info, ended = walk(env, [0, 0, 0], seed=2)
    assert ended == (False, True)
    assert rewards[-1] == 0 and not info["evaluated"]
    assert info["accuracy"] == 0.9
    assert env.unwrapped.ledger.distinct == 2
    assert walk(env, [2, 2, 2])[2] == (True, False)


def test_the_budget_is_counted_over_all_environments_of_a_ledger():
    ledger = Ledger(evaluation_budget=1)
    first, second = toy_env(ledger=ledger), toy_env(ledger=ledger)
    walk(first, [2, 2, 2])
    assert walk(second, [1, 1, 1])[2] == (False, True)


def test_truncation_in_mid_episode_when_every_step_measures():
    env = toy_env(reward="ratio", reward_timing="every_step", evaluation_budget=1)
    rewards, _, ended = walk(env, [1, 1, 1])
    assert len(rewards) == 2 and ended == (False, True)


def test_info_has_the_same_keys_and_plain_values_at_every_step():
    env = gym.make(ID, net="synthetic")
    _, info = env.reset(seed=0)
    _, _, _, _, later = env.step(0)
    assert info.keys() == later.keys()
    json.dumps([info, later])


def test_what_was_resolved_stands_in_task():
    assert gym.make(ID).unwrapped.task["evaluator"] == "table:digits-digits-wrpn-short-w2to8/1.0.0"


def test_action_log_tells_what_happened(tmp_path):
    env = toy_env(log=str(tmp_path / "log.jsonl"))
    walk(env, [0, 1, 2], seed=5)
    env.reset()
    env.step(1)
    env.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["task"]["evaluator"] == "toy"
    assert lines[1]["seed"] == 5 and lines[1]["actions"] == [0, 1, 2]
    assert lines[1]["bitwidths"] == [2, 4, 8] and not lines[1]["cut"]
    step, repeat, accuracy, number = lines[1]["revealed"][0]
    assert (step, number) == (3, 1) and accuracy == ToyEvaluator().evaluate(
        (2, 4, 8), repeat
    ).accuracy
    assert lines[2]["actions"] == [1] and lines[2]["cut"]


@pytest.mark.parametrize("groups", [None, [["first", "last"]], [["last", "middle"]]])
def test_what_was_revealed_is_read_back_from_the_log(tmp_path, groups):
    env = toy_env(
        reward="ratio",
        reward_timing="every_step",
        groups=groups,
        log=str(tmp_path / "log.jsonl"),
    ).unwrapped
    for seed in range(4):
        walk(env, [seed % 3, 1, 0], seed=seed)
    revealed = read_revealed(tmp_path / "log.jsonl", env.problem)
    cells = env.ledger.cells(env.problem)
    assert len(revealed) == env.ledger.fresh == 4 * len(env.problem.steps)
    assert {one.bitwidths for one in revealed} == set(cells)
    assert all(cells[one.bitwidths].accuracies[one.repeat] == one.accuracy for one in revealed)
    assert sum(one.complete for one in revealed) == 4


def test_a_log_is_not_called_compressed(tmp_path):
    with pytest.raises(ValueError, match=r"name it mine\.jsonl, and compress it when"):
        toy_env(log=tmp_path / "mine.jsonl.gz")
    assert not list(tmp_path.iterdir())


def test_an_existing_log_is_not_overwritten(tmp_path):
    log = str(tmp_path / "log.jsonl")
    toy_env(log=log)
    with pytest.raises(ValueError, match=r"share one releq_gym\.Ledger"):
        toy_env(log=log)


def test_a_copy_logs_only_what_it_revealed_itself(tmp_path):
    log = tmp_path / "log.jsonl"
    env = toy_env(reward="ratio", reward_timing="every_step", log=str(log))
    env.reset(seed=0)
    env.step(2)
    twin = copy.deepcopy(env)
    for one in (env, twin):
        one.step(1)
        one.step(1)
    joined, *lines = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    assert joined == {"env": 1, "continues": 0}
    assert [line["env"] for line in lines] == [0, 1]
    assert [len(line["revealed"]) for line in lines] == [3, 2]
    assert [line["actions"] for line in lines] == [[2, 1, 1]] * 2
    assert "copied" not in lines[0] and lines[1]["copied"] == 1
    assert env.unwrapped.ledger.fresh == 5


def test_the_answer_keeps_the_cost_budget_also_when_every_step_is_measured():
    env = gym.make(ID, task="synthetic-6-1", cost_budget={"cost": 0.3}, evaluate="every_step")
    rng = np.random.default_rng(0)
    for _ in range(20):
        walk(env, rng.integers(7, size=6).tolist())
    base = env.unwrapped
    assert max(map(base.problem.cost, base.ledger.cells(base.problem))) > 0.3
    assert base.ledger.best(base.problem).cost <= 0.3 + 1e-9


def test_the_answer_is_one_of_the_problems_choices():
    ledger = Ledger()
    walk(toy_env(ledger=ledger), [1, 1, 1])
    narrow = toy_env(ledger=ledger, bitwidths=[2, 8], fixed_bitwidths={"first": 8})
    assert ledger.best(narrow.unwrapped.problem) is None
    walk(narrow, [1, 1])
    assert ledger.best(narrow.unwrapped.problem).bitwidths == (8, 8, 8)


def test_synchronous_environments_share_a_budget_by_their_ledger():
    envs = gym.make_vec(
        ID, 3, vectorization_mode="sync", evaluator=ToyEvaluator(), ledger=Ledger(1)
    )
    envs.reset(seed=0)
    for actions in ([0, 1, 2],) * 3:
        _, _, terminated, truncated, _ = envs.step(np.array(actions))
    assert terminated.tolist() == [True, False, False]
    assert truncated.tolist() == [False, True, True]


def test_what_was_resolved_is_plain_json_without_addresses():
    task = toy_env(reward=lambda transition: 0.0).unwrapped.task
    assert "0x" not in json.dumps(task)
    assert gym.make(ID).unwrapped.task["quantizer"] == "wrpn"


def test_rendering():
    env = gym.make(ID, net="synthetic", render_mode="ansi")
    env.reset(seed=0)
    env.step(0)
    assert "layer0  ##       2" in env.render()
    env = toy_env(groups=[["first", "last"]], render_mode="ansi")
    env.reset(seed=0)
    env.step(0)
    assert env.render().splitlines()[:3] == [
        "first  ##       2",
        "middle ######## 8 ?",
        "last   ##       2",
    ]
    env = gym.make(ID, net="synthetic", render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render()
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.std() > 0


def test_a_task_folder_of_ones_own(tmp_path):
    folder = toy_task(tmp_path / "task")
    env = gym.make(ID, task=str(folder))
    check_env(env.unwrapped)
    assert env.unwrapped.problem.evaluator.net == "toy"


# What a user may get wrong


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"net": "digit"}, "Unknown net 'digit'. Did you mean 'digits'"),
        ({"task": "digits-wrpn"}, "Unknown task 'digits-wrpn'"),
        ({"task": "synthetic-x"}, "synthetic-LAYERS-SEED"),
        ({"task": "synthetic-99-0"}, "4 to 64 layers"),
        ({"reward": "acuracy_floor"}, "Did you mean 'accuracy_floor'"),
        ({"reward_kwargs": {"maximum": 1}}, "no parameter 'maximum'; it takes max_loss_points"),
        ({"reward_kwargs": 3}, "reward_kwargs=3 has to be a dict of names and values"),
        ({"evaluator_kwargs": 3}, "evaluator_kwargs=3 has to be a dict"),
        (
            {"evaluator": "live", "evaluator_kwargs": {"quantizer": "lsq"}},
            "evaluator_kwargs does not take 'quantizer'; pass quantizer= itself",
        ),
        ({"evaluator": "lve"}, "Unknown evaluator 'lve'. Did you mean 'live'"),
        ({"evaluator": 3}, "evaluator=3 has no evaluate"),
        ({"quantizer": "lsq"}, "No shipped task of the net 'digits' has quantizer='lsq'"),
        ({"recipe": "long"}, "evaluator='live'"),
        ({"net": "synthetic", "quantizer": "wrpn"}, "evaluator='live'"),
        ({"bitwidths": [1, 2]}, r"has bitwidths=\[2, 3, 4, 5, 6, 7, 8\], not bitwidths=\[1, 2\]"),
        ({"bitwidths": [9]}, "bitwidths"),
        ({"max_loss_points": 1}, r"reward_kwargs=\{'max_loss_points': 1.0\}"),
        ({"budget": 5}, "evaluation_budget counts assignments"),
        ({"task": "digits"}, "A net has its task by net='digits'"),
        ({"task": "releq/DigitsWRPN-v0"}, "whose task is 'digits-digits-wrpn-short-w2to8/1.0.0'"),
        ({"fixed_bitwidths": {"conv9": 8}}, "Unknown layer in fixed_bitwidths 'conv9'"),
        ({"fixed_bitwidths": {"conv1": 1}}, r"\['conv1'\] = 1 is not among"),
        ({"groups": [["fc1", "conv11"]]}, "Unknown layer in groups 'conv11'. Did you mean 'conv1'"),
        ({"groups": ["conv1", "conv2"]}, "must be a list of lists of layer names"),
        ({"evaluate": "final", "reward_timing": "every_step"}, "measures only the last"),
        ({"evaluate": "final", "reward_timing": "telescoped"}, "measures only the last"),
        ({"evaluate": "never"}, "Unknown evaluate 'never'"),
        ({"reward_timing": "last"}, "Unknown reward_timing 'last'"),
        ({"observation": "layers"}, "Did you mean 'layer'"),
        ({"noise": "gaussian"}, "Unknown noise 'gaussian'"),
        ({"on_masked": "clip"}, "Unknown on_masked 'clip'"),
        ({"gamma": 0}, "gamma=0 must lie"),
        ({"cost": "quantisation_state"}, "Did you mean 'quantization_state'"),
        ({"cost_budget": {"cost": 0.1}}, "least reachable is 0.25"),
        ({"evaluation_budget": 0}, "at least 1"),
        ({"evaluation_budget": True}, "must be a whole number"),
        ({"log": f"{__file__}/x.jsonl"}, "cannot be written"),
        ({"net": ["digits", 5]}, "and 5 is no name"),
        ({"data": "somewhere"}, "data= is for evaluator='live'"),
        ({"evaluator": "live", "task": "synthetic-20-0"}, "leave it out with evaluator='live'"),
        ({"net": "synthetic", "task": "digits-digits-wrpn-short-w2to8"}, "about the net 'digits'"),
        ({"net": "alexnet"}, "No task is shipped for the net 'alexnet'"),
        ({"ledger": Ledger(), "log": "x"}, "carries its own"),
        ({"ledger": 3}, "no releq_gym.Ledger"),
        (
            {"evaluation_bugdet": 3},
            "Did you mean 'evaluation_budget'",
        ),
        ({"bitwidths": 5}, "bitwidths=5 has to be a list"),
        (
            {"bitwidths": [2.7]},
            r"bitwidths=\[2.7\] has to be a list of one or more whole numbers, 1 to 8",
        ),
        ({"gamma": "x"}, "gamma='x' must lie"),
        ({"cost_budget": 0.5}, "must be a dict"),
        ({"cost_budget": {"cost": "x"}}, "must be a number above 0"),
        ({"cost_budget": {"cost": 0}}, "must be a number above 0"),
        ({"evaluation_budget": 1.9}, "whole number"),
        ({"evaluation_budget": [3]}, "whole number"),
        ({"fixed_bitwidths": ["conv1"]}, "must be a dict"),
        ({"task": 3}, "neither a name nor a folder"),
        ({"quantizer": "wrnp"}, "Unknown quantizer 'wrnp'. Did you mean 'wrpn'"),
        ({"recipe": "shrt"}, "Did you mean 'short'"),
        ({"evaluator": ToyEvaluator(), "net": "lenet"}, "net= is settled by the evaluator object"),
        (
            {"evaluator": "live", "evaluator_kwargs": {"repeets": 3}},
            "Unknown evaluator_kwargs 'repeets'. Did you mean 'repeats'",
        ),
        ({"evaluator": ToyEvaluator(), "cost": lambda layers, bitwidths: {}}, "headline first"),
        ({"net": "digits", "bitwidths": 4}, "bitwidths=4 has to be a list for all layers"),
        ({"net": 5}, "net=5 is no name, and shipped tasks are of named nets"),
        (
            {"net": "digits", "evaluator": "live", "evaluator_kwargs": {"memory": -1}},
            "memory=-1 has to be a whole number of bytes",
        ),
        ({"reward": "releq", "reward_kwargs": {"th": 0}}, "must be above 0"),
        ({"reward": "releq", "reward_kwargs": {"a": None}}, "a=None has to be a number"),
        ({"reward": "releq_code", "reward_kwargs": {"b": "1"}}, "b='1' has to be a number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_wrong_keywords_get_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        gym.make(ID, **options)


def test_a_reward_may_be_an_array_without_axes():
    assert walk(toy_env(reward=lambda transition: np.array(0.5)), [2, 2, 2])[0][-1] == 0.5


@pytest.mark.parametrize("value", [None, "much", float("nan"), float("inf")])
def test_a_reward_that_is_no_number_is_refused(value):
    env = toy_env(reward=lambda transition: value)
    with pytest.raises(ValueError, match="must return a finite number"):
        walk(env, [2, 2, 2])


@pytest.mark.parametrize("action", [-1, 3, 1.5, "2 bits"])
def test_step_rejects_action_outside_space(action):
    env = toy_env().unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"0: 2 bits, 1: 4 bits, 2: 8 bits"):
        env.step(action)


def test_step_needs_a_reset_before_and_after_an_episode():
    env = toy_env().unwrapped
    with pytest.raises(ResetNeeded, match="before the first"):
        env.step(0)
    walk(env, [0, 0, 0])
    with pytest.raises(ResetNeeded, match="episode is over"):
        env.step(0)


def test_unknown_reset_option_is_refused():
    with pytest.raises(UnknownNameError, match="reset option 'bitwidth'"):
        toy_env().reset(options={"bitwidth": 3})


# The docstring is the documentation


def test_docstring_has_exactly_the_nine_headings():
    headings = re.findall(r"^    ## (.+)$", QuantizeNetEnv.__doc__, re.MULTILINE)
    assert headings == [
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Information",
        "Arguments",
        "Version History",
    ]


def test_arguments_table_equals_the_signature():
    rows = re.findall(r"^    \| `(\w+)` \| `(.+?)` \|", QuantizeNetEnv.__doc__, re.MULTILINE)
    parameters = list(inspect.signature(QuantizeNetEnv).parameters.values())[:-1]  # **unknown
    assert [name for name, _ in rows] == [parameter.name for parameter in parameters]
    expected = [
        json.dumps(p.default) if isinstance(p.default, str) else repr(p.default) for p in parameters
    ]
    assert [default for _, default in rows] == expected


def test_information_section_names_every_key():
    section = QuantizeNetEnv.__doc__.split("## Information")[1].split("## Arguments")[0]
    _, info = toy_env().reset(seed=0)
    for key in info.keys() - {"mac_bits"}:
        assert f"`{key}`" in section


def test_the_spaces_in_the_docstring_are_the_envs():
    env = toy_env().unwrapped
    assert "`Discrete(len(bitwidths))`" in QuantizeNetEnv.__doc__
    assert env.action_space.n == 3
    assert "float32 `Box(0.0, 1.0)`" in QuantizeNetEnv.__doc__
    assert env.observation_space.dtype == np.float32
    assert len(env.feature_names) == env.observation_space.shape[0]


def test_a_refused_environment_leaves_its_log_to_the_next_one(tmp_path):
    log = tmp_path / "log.jsonl"
    with pytest.raises(UnknownNameError, match="layer"):
        gym.make(ID, net="synthetic", observation="layr", log=log)
    gym.make(ID, net="synthetic", observation="layer", log=log)
    assert len(log.read_text().splitlines()) == 1


def test_arguments_are_copied():
    bitwidths, fixed, budget = [2, 4, 8], {"last": 8}, {"cost": 0.9}
    options = {"bitwidths": bitwidths, "fixed_bitwidths": fixed, "cost_budget": budget}
    env = toy_env(**options).unwrapped
    told = env.task
    bitwidths.remove(8), fixed.clear(), budget.update(cost=0.1)
    assert env.task == told
    twin = env.problem.with_evaluator(ToyEvaluator())
    assert (twin.bitwidths, len(twin.steps), twin.limits) == ((2, 4, 8), 2, env.problem.limits)


@pytest.mark.parametrize("evaluate", ["final", "every_step"])
def test_after_a_failed_measurement_comes_a_reset(monkeypatch, tmp_path, evaluate):
    env = toy_env(evaluate=evaluate, log=tmp_path / "log.jsonl")
    env.reset()
    taken = 2 if evaluate == "final" else 1
    for _ in range(taken):
        env.step(1)

    def fail(self, bitwidths, repeat):
        raise RuntimeError("interrupted")

    with monkeypatch.context() as patched:
        patched.setattr(ToyEvaluator, "evaluate", fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            env.step(1)
    with pytest.raises(ResetNeeded):
        env.step(1)
    assert walk(env, [1, 1, 1])[1]["evaluated"]
    assert env.unwrapped.ledger.fresh == (1 if evaluate == "final" else 4)
    _, cut, again = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (cut["actions"], cut["cut"]) == ([1] * taken, True)
    assert cut["bitwidths"] == [4] * taken + [8] * (3 - taken)
    assert again["seed"] is not None  # drawn anew: the failed visit was counted


@pytest.mark.parametrize("accuracy", [float("nan"), -0.1, 92.0])
def test_an_accuracy_that_is_no_fraction_is_refused(accuracy):
    class Wrong(ToyEvaluator):
        def evaluate(self, bitwidths, repeat):
            return super().evaluate(bitwidths, repeat)._replace(accuracy=accuracy)

    for env in (
        gym.make(ID, evaluator=Wrong()),
        gym.make_vec(ID, 2, vectorization_mode="vector_entry_point", evaluator=Wrong()),
    ):
        env.reset()
        action = 1 if env.action_space.shape == () else np.ones(2, dtype=int)
        env.step(action), env.step(action)
        with pytest.raises(ValueError, match="it has to be a fraction, from 0 to 1"):
            env.step(action)
        assert env.unwrapped.ledger.fresh == 0

    class Percent(ToyEvaluator):
        full_precision_accuracy = 90.0

    with pytest.raises(ValueError, match="has to be a fraction above 0"):
        gym.make(ID, evaluator=Percent())


def test_no_reward_is_asked_about_an_accuracy_below_zero():
    env = gym.make(ID, net="digits", reward=lambda t: np.sqrt(t.accuracy) - t.cost)
    walk(env, [3, 0, 1, 0], seed=5)
    with np.errstate(invalid="raise"):
        assert env.unwrapped.ledger.best(env.unwrapped.problem) is not None


@pytest.mark.parametrize("task", ["digits-digits-wrpn-short-w2to8", "synthetic-4-0", "vgg11"])
def test_an_evaluator_refuses_what_is_no_assignment(task):
    env = gym.make(ID, **({"net": task} if task == "vgg11" else {"task": task})).unwrapped
    evaluator, layers = env.problem.evaluator, len(env.problem.layers)
    for wrong in [(8,) * (layers - 1), (-1,) * layers, (0,) * layers, (9,) * layers]:
        with pytest.raises(ValueError, match="bitwidth"):
            evaluator.evaluate(wrong, 0)
    if evaluator.repeats > 1:
        with pytest.raises(ValueError, match="does not exist"):
            evaluator.evaluate((8,) * layers, evaluator.repeats)


def test_a_cost_model_that_charges_nothing_for_the_most_bits_is_refused():
    def free_below_8(layers, bitwidths):
        return {"money": np.outer(np.ones(len(layers)), np.asarray(bitwidths) == 8).astype(float)}

    with pytest.raises(ValueError, match="all layers at 4 bits no cost"):
        toy_env(cost=free_below_8, bitwidths=[2, 4])
