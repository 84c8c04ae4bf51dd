import numpy as np
import pytest

from agents.several_vec_env import SeveralNetsVecEnv
from agents.vec_env import QuantizeNetVecEnv
from releq_gym.evaluators.synthetic import LAYERS

COMMON = range(2, 9)


def test_each_group_does_what_its_own_vector_environment_does():
    several = SeveralNetsVecEnv(["lenet", "synthetic-6-0"], 2, bitwidths=COMMON)
    alone = [QuantizeNetVecEnv(2, net="lenet", bitwidths=COMMON),
             QuantizeNetVecEnv(2, task="synthetic-6-0", bitwidths=COMMON)]  # fmt: skip
    several.seed(5), alone[0].seed(5), alone[1].seed(7)
    shown = several.reset()
    np.testing.assert_array_equal(shown, np.concatenate([env.reset() for env in alone]))
    rng, ended = np.random.default_rng(0), 0
    for _ in range(14):
        actions = rng.integers(7, size=4)
        observations, rewards, over, infos = several.step(actions)
        parts = [env.step(actions[i * 2 : i * 2 + 2]) for i, env in enumerate(alone)]
        np.testing.assert_array_equal(observations, np.concatenate([part[0] for part in parts]))
        np.testing.assert_array_equal(rewards, np.concatenate([part[1] for part in parts]))
        np.testing.assert_array_equal(over, np.concatenate([part[2] for part in parts]))
        assert [bool(info) for info in infos] == over.tolist()
        ended += over.sum()
    assert ended == 2 * (14 // 4) + 2 * (14 // 6)
    assert [problem.evaluator.net for problem in several.get_attr("problem")] == [
        *["lenet"] * 2,
        *["synthetic"] * 2,
    ]
    several.close()


def depths(env):
    return [len(problem.layers) for problem in env.get_attr("problem")][:: env.copies]


def test_a_family_is_another_landscape_in_each_episode_and_the_seed_fixes_which():
    def drawn(seed):
        env = SeveralNetsVecEnv(["synthetic-any-any"] * 2, 3)
        env.seed(seed)
        env.reset()
        found = [depths(env)]
        for _ in range(130):
            over = env.step(np.zeros(6, dtype=int))[2]
            if over.any():
                found.append(depths(env))
        return found

    first = drawn(0)
    assert len(first) > 3 and len({depth for pair in first for depth in pair}) > 3
    assert all(depth in LAYERS for pair in first for depth in pair)
    assert drawn(0) == first != drawn(1)


@pytest.mark.parametrize("observation", ["layer", "paper", "full"])
def test_blind_it_pays_at_every_step_and_shows_nothing_of_it(observation):
    options = {"bitwidths": COMMON, "observation": observation}
    blind = SeveralNetsVecEnv(
        ["lenet", "synthetic-6-0"], 2, blind=True, reward_timing="telescoped", **options
    )
    final = SeveralNetsVecEnv(["lenet", "synthetic-6-0"], 2, **options)
    np.testing.assert_equal(blind.reset(), final.reset())
    paid, earned = np.zeros(4), np.zeros(4)
    for _ in range(12):  # ends episodes of both at once
        actions = np.array([0, 3, 1, 4])
        shown, rewards, *_ = blind.step(actions)
        expected, totals, *_ = final.step(actions)
        np.testing.assert_equal(shown, expected)
        assert (rewards != 0).any()
        paid += rewards
        earned += totals
    np.testing.assert_allclose(paid, earned, atol=1e-5)


def test_what_cannot_walk_side_by_side_is_refused():
    with pytest.raises(ValueError, match="lenet and digits differ in what may be chosen"):
        SeveralNetsVecEnv(["lenet", "digits"], 2)
    with pytest.raises(ValueError, match="has to name one or more nets"):
        SeveralNetsVecEnv([], 2)
