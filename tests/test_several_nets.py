import json
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from toys import toy_task

from releq_gym import Ledger
from releq_gym.several_nets import SeveralNetsEnv, is_family

ID = "releq/QuantizeNet-v0"
NETS = ["digits", "synthetic", "synthetic-6-1"]


def play(env, rng, **reset):
    """One random episode: the last info, and how many steps it took."""
    _, info = env.reset(**reset)
    steps, over = 0, False
    while not over:
        *_, terminated, truncated, info = env.step(int(rng.integers(env.action_space.n)))
        steps, over = steps + 1, terminated or truncated
    return info, steps


def test_the_checker_passes():
    check_env(gym.make(ID, net=NETS).unwrapped)
    check_env(gym.make(ID, task="synthetic-any-any").unwrapped)


def test_every_net_is_drawn_and_named():
    env, rng, depths = gym.make(ID, net=NETS), np.random.default_rng(0), {}
    for episode in range(40):
        info, steps = play(env, rng, seed=0 if episode == 0 else None)
        depths.setdefault(info["net"], set()).add(steps)
    assert depths == {"digits": {4}, "synthetic": {20}, "synthetic-6-1": {6}}


def test_an_episode_is_that_of_the_net_alone():
    several, alone = gym.make(ID, net=NETS), gym.make(ID, net="digits")
    rng = np.random.default_rng(0)
    first = several.reset(seed=5, options={"net": "digits"}), alone.reset(seed=5)
    for _ in range(3):
        over = False
        while not over:
            action = int(rng.integers(7))
            ours, theirs = several.step(action), alone.step(action)
            assert ours[-1].pop("net") == "digits"
            assert data_equivalence(ours, theirs)
            over = theirs[2]
        several.reset(options={"net": "digits"}), alone.reset()
    assert first[0][1].pop("net") == "digits"
    assert data_equivalence(*first)


@pytest.mark.parametrize("net", [NETS, ["synthetic-any-any", "digits"]], ids=str)
def test_a_seed_fixes_which_nets_come(net):
    first, second = gym.make(ID, net=net), gym.make(ID, net=net)
    third = gym.make(ID, net=net)
    draws = [
        [
            play(env, np.random.default_rng(1), seed=seed if episode == 0 else None)
            for episode in range(12)
        ]
        for env, seed in ((first, 3), (second, 3), (third, 4))
    ]
    assert data_equivalence(draws[0], draws[1])
    assert not data_equivalence(draws[0], draws[2])


def test_a_family_never_ends():
    env, rng = gym.make(ID, task="synthetic-8-any"), np.random.default_rng(0)
    env.reset(seed=0)
    seen = {play(env, rng) and env.unwrapped.task["evaluator"] for _ in range(10)}
    assert len(seen) == 10
    assert all(name.startswith("synthetic-8-") for name in seen)
    assert all(int(name.split("-")[2]) >= 1000 for name in seen)  # smaller ones are to test on
    assert is_family("synthetic-any-3") and not is_family("synthetic-20-0")


def test_they_share_one_budget():
    env, rng = gym.make(ID, net=NETS, evaluation_budget=10), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(60):
        play(env, rng)
    assert env.unwrapped.ledger.distinct == 10


def test_masks_are_those_of_the_net_at_hand():
    env = gym.make(ID, net=NETS, cost_budget={"cost": 0.26})
    env.reset(seed=0, options={"net": "digits"})
    alone = gym.make(ID, net="digits", cost_budget={"cost": 0.26})
    alone.reset(seed=0)
    masks = [one.get_wrapper_attr("action_masks")() for one in (env, alone)]
    np.testing.assert_array_equal(*masks)
    assert not masks[0].all()


def test_copies_side_by_side_work():
    envs = gym.make_vec(ID, 3, vectorization_mode="sync", net=NETS)
    envs.reset(seed=0)
    for _ in range(30):
        *_, infos = envs.step(envs.action_space.sample())
    assert set(infos["net"]) <= set(NETS)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"net": []}, "one or more different nets"),
        ({"net": ["digits", "digits"]}, "one or more different nets"),
        ({"net": ["digits", "lenett"]}, "Did you mean 'lenet'"),
        ({"net": NETS, "task": "synthetic-4-0"}, "task= is about one net"),
        ({"net": NETS, "fixed_bitwidths": {"conv1": 8}}, "fixed_bitwidths= is about one net"),
        ({"net": NETS, "rewrad": "ratio"}, "Did you mean 'reward'"),
        ({"net": NETS, "ledger": "x"}, "ledger='x' is no releq_gym.Ledger"),
        ({"net": NETS, "ledger": Ledger(), "log": "x"}, "carries its own"),
        ({"net": NETS, "cost_budget": {"cost": 0.01}}, f"{NETS[0]}: .*cost"),
    ],
)
def test_wrong_lists_get_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        gym.make(ID, **options)


def test_a_task_folder_is_one_of_several_nets(tmp_path, monkeypatch):
    toy_task(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    env = gym.make(ID, net=["mine", "digits"], bitwidths=[2, 4, 8])
    assert env.reset(options={"net": "mine"})[1]["net"] == "mine"


def test_unknown_nets_at_reset_get_a_sentence():
    env = gym.make(ID, net=NETS)
    with pytest.raises(ValueError, match="Did you mean 'digits'"):
        env.reset(options={"net": "digit"})
    with pytest.raises(ValueError, match="Unknown reset option 'nett'"):
        env.reset(options={"nett": "digits"})


def test_the_native_vector_environment_says_what_to_use():
    with pytest.raises(ValueError, match="vectorization_mode='sync'"):
        gym.make_vec(ID, 2, vectorization_mode="vector_entry_point", net=NETS)


def test_the_specification_survives_json():
    env = gym.make(ID, net=NETS)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again.unwrapped, SeveralNetsEnv) and again.unwrapped.names == tuple(NETS)


def test_an_episode_of_a_family_that_is_cut_is_logged(tmp_path):
    log = tmp_path / "log.jsonl"
    env = gym.make(ID, task="synthetic-5-any", log=str(log))
    env.reset(seed=0)
    env.step(2)
    env.reset()
    env.close()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["actions"] for record in records if record.get("cut")] == [[2]]


def test_a_family_is_about_no_other_net():
    with pytest.raises(ValueError, match="'synthetic-any-0' is about the net 'synthetic', not"):
        gym.make(ID, net="lenet", task="synthetic-any-0")
    gym.make(ID, net="synthetic", task="synthetic-any-0").close()


def test_refused_networks_leave_the_log_to_the_next_ones(tmp_path):
    log, nets = tmp_path / "log.jsonl", ["digits", "lenet"]
    with pytest.raises(ValueError, match="pass bitwidths="):
        gym.make(ID, net=nets, log=log)
    env = gym.make(ID, net=nets, log=log, bitwidths=[2, 4, 8])
    assert len(log.read_text().splitlines()) == 2
    play(env, np.random.default_rng(0), seed=0)
    env.close()
    assert len(log.read_text().splitlines()) == 3


def test_landscapes_that_are_gone_take_no_room():
    env = gym.make(ID, task="synthetic-4-any").unwrapped
    rng = np.random.default_rng(0)
    for _ in range(30):
        play(env, rng)
    assert env.ledger.distinct == 30
    assert sum(map(len, env.ledger._cells.values())) == 1


def test_drawing_networks_and_landscapes_needs_no_torch():
    script = (
        "import sys, gymnasium as gym, releq_gym\n"
        f"for options in ({{'net': {NETS!r}}}, {{'task': 'synthetic-any-any'}}):\n"
        f"    gym.make({ID!r}, bitwidths=[2, 4, 8], **options).reset(seed=0)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_landscapes_that_come_again_are_asked_once():
    env = gym.make(ID, net=["synthetic-any-3"]).unwrapped
    asked = set()
    for _ in range(100):
        asked.add((env.reset()[1]["net"], env.problem.evaluator.name))
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(0)
            over = terminated or truncated
    assert len(asked) < 62 and env.ledger.distinct == len(asked)


def test_a_family_that_is_none_is_a_sentence():
    with pytest.raises(ValueError, match="such as synthetic-20-any"):
        gym.make(ID, task="synthetic-any")
