import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from agents.leaning import leans
from agents.policy_file import RECORD, load_policy, read_card
from agents.pretrain import Pretraining, pretrain
from agents.pretrain import main as pretrain_command
from agents.pretrained import SHIPPED, PretrainedAgent, PretrainedSettings
from agents.train import main as train
from agents.walk import PolicyBitwidths
from benchmarks.learning import learn_until_spent
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Ledger

TINY = Pretraining(
    nets=("lenet",), landscapes=1, steps=64, copies=2, rollout=16, batch_size=32, n_epochs=1
)
VARIANTS = [("layer", False), ("paper", True), ("full", False), ("full", True)]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    path = tmp_path_factory.mktemp("policies") / "tiny.safetensors"
    pretrain(TINY, path)
    return path


def agent(path, task="synthetic-6-0", ledger=None, observation="layer", walks=16, **options):
    ledger = ledger or Ledger()
    return PretrainedAgent(
        lambda: QuantizeNetEnv(task=task, ledger=ledger, observation=observation, **options),
        PretrainedSettings(policy=path and str(path), n_envs=2, n_epochs=1, walks=walks),
        0,
    )


def test_the_same_plan_gives_the_same_policy(policy, tmp_path):
    pretrain(TINY, tmp_path / "twin.safetensors")
    assert (tmp_path / "twin.safetensors").read_bytes() == policy.read_bytes()
    pretrain(dataclasses.replace(TINY, seed=1), tmp_path / "other.safetensors")
    assert (tmp_path / "other.safetensors").read_bytes() != policy.read_bytes()


def test_one_step_at_a_time_teaches_nothing():
    for sizes in ({"copies": 1, "rollout": 1}, {"batch_size": 1}):
        with pytest.raises(ValueError, match="PPO learns from two steps or more"):
            Pretraining(**sizes)


def test_a_last_minibatch_of_one_step_does_no_harm(tmp_path):
    sizes = {"steps": 33, "copies": 3, "rollout": 11, "batch_size": 32, "n_epochs": 1}
    pretrain(Pretraining(landscapes=1, memory=True, **sizes), tmp_path / "p.safetensors")
    assert all(tensor.isfinite().all() for tensor in load_file(tmp_path / "p.safetensors").values())


@pytest.mark.parametrize("bitwidths", [(8, 4, 2), (2, 4, 4)])
def test_bitwidths_of_a_policy_ascend(bitwidths, policy, tmp_path):
    with pytest.raises(ValueError, match="have to ascend, each of them once"):
        Pretraining(bitwidths=bitwidths)
    card = json.dumps({**dataclasses.asdict(read_card(policy)), "bitwidths": bitwidths})
    save_file(load_file(policy), tmp_path / "p.safetensors", {RECORD: card})
    with pytest.raises(ValueError, match="have to ascend"):
        read_card(tmp_path / "p.safetensors")


def test_its_card_says_what_it_knows(policy):
    card = read_card(policy)
    assert card.nets == ("lenet", "synthetic")
    assert (card.observation, card.memory, card.seed, card.steps) == ("layer", False, 0, 64)
    assert card.settings["learning_rate"] == TINY.learning_rate


@pytest.mark.parametrize(("observation", "memory"), VARIANTS)
def test_every_variant_is_loaded_with_the_probabilities_it_was_saved_with(
    observation, memory, tmp_path, monkeypatch
):
    kept = {}

    def keep(path, model_policy, card):
        kept["policy"] = model_policy
        write(path, model_policy, card)

    from agents.policy_file import write_policy as write

    monkeypatch.setattr("agents.pretrain.write_policy", keep)
    path = tmp_path / "policy.safetensors"
    pretrain(dataclasses.replace(TINY, observation=observation, memory=memory), path)
    loaded = agent(path, observation=observation)
    for name, tensor in kept["policy"].state_dict().items():
        assert torch.equal(loaded.model.policy.state_dict()[name], tensor)
    env = QuantizeNetEnv(task="synthetic-6-0", observation=observation)
    seen, _ = loaded.model.policy.obs_to_tensor(env.reset(seed=0)[0])
    states = (torch.zeros(1, 1, 128),) * 2, torch.ones(1)
    ours, theirs = (
        one.get_distribution(seen, *states)[0] if memory else one.get_distribution(seen)
        for one in (loaded.model.policy, kept["policy"])
    )
    assert torch.equal(ours.distribution.probs, theirs.distribution.probs)
    loaded.close()


@pytest.mark.parametrize("task", ["synthetic-6-0", "lenet-mnist-uniform-ptq-w1to8"])
def test_the_first_answer_reveals_nothing_and_is_what_the_first_walk_asks(policy, task):
    ledger = Ledger(1)
    one = agent(policy, task, ledger, walks=1)
    first = one.first_answer()
    assert (ledger.fresh, ledger.distinct, one.steps) == (0, 0, 0)
    assert set(first) <= set(range(2, 9))
    learn_until_spent(one, ledger, 1_000)
    assert list(ledger.cells(one.problem)) == [first]


def test_the_first_answer_keeps_to_a_cost_budget(policy):
    one = agent(policy, cost_budget={"cost": 0.3})
    assert one.problem.cost(one.first_answer()) <= 0.3
    one.close()


def test_an_answer_without_evaluations_needs_an_environment_that_measures_at_the_end(policy):
    one = agent(policy, evaluate="every_step")
    with pytest.raises(ValueError, match="needs evaluate='final'"):
        one.first_answer()
    one.close()


def played(goal, count=40):
    """Leans that are tried where what is earned falls with the distance from a goal."""
    trial, tried = leans(), []
    lean = next(trial)
    for _ in range(count):
        tried.append(lean)
        try:
            lean = trial.send(-abs(lean - goal))
        except StopIteration:
            break
    return tried


@pytest.mark.parametrize("goal", [0.0, -3.3, 5.1, 0.4, -40.0])
def test_leaning_closes_in_on_what_earns_most(goal):
    tried = played(goal)
    assert tried[0] == 0.0 and len(set(tried)) == len(tried) < 40
    assert min(abs(lean - goal) for lean in tried) < 0.13


def test_leaning_up_gives_more_bits(policy):
    one = agent(policy)
    mean = {}
    for lean in (-8.0, 0.0, 8.0):
        one._walker.walk(lean)
        mean[lean] = np.mean(one._env.unwrapped._bitwidths)
    assert mean[-8.0] < mean[0.0] < mean[8.0]
    one.close()


def test_it_goes_on_from_the_lean_that_earned_most(policy):
    one = agent(policy)
    before = one.model.policy.action_net.bias.detach().clone()
    earned = iter([0.0, 1.0, 0.5] + [0.0] * 50)
    walk = one._walker.walk
    one._walker.walk = lambda *given: walk(*given)._replace(earned=next(earned))
    assert one._open(Silent())
    added = one.model.policy.action_net.bias.detach() - before
    np.testing.assert_allclose(added.numpy(), -1.0 * np.arange(7), atol=1e-5)
    assert one.steps >= 3 * 6
    one.close()


def test_a_resumed_run_goes_on_by_ppo(policy, tmp_path):
    one = agent(policy)
    one.learn(200, Silent())
    one.save(tmp_path / "agent.zip")
    one.close()
    again = PretrainedAgent(one_env, one.settings, 1, tmp_path / "agent.zip")
    assert again.steps == one.steps >= 200
    ours, theirs = (each.model.policy.state_dict() for each in (again, one))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    again._open = None  # the first walks were taken, all of them
    again.learn(20, Silent())
    assert again.steps > one.steps
    again.close()


def test_walks_that_were_interrupted_are_taken_up_again(policy, tmp_path):
    one = agent(policy)
    before = one.model.policy.action_net.bias.detach().clone()
    steps = iter([True] * 10 + [False])
    one.learn(200, SimpleNamespace(after_step=lambda: next(steps)))
    assert 0 < one.steps < 12 and torch.equal(one.model.policy.action_net.bias, before)
    one.save(tmp_path / "agent.zip")
    one.close()
    again = PretrainedAgent(one_env, one.settings, 1, tmp_path / "agent.zip")
    opened = []
    again._open = lambda watch: opened.append(watch)
    again.learn(20, Silent())
    assert len(opened) == 1
    again.close()


def one_env():
    return QuantizeNetEnv(task="synthetic-6-0")


class Silent:
    def after_step(self):
        return True

    def after_rollout(self, probabilities):
        pass


def test_a_bitwidth_that_an_environment_lacks_is_its_nearest():
    env = PolicyBitwidths(QuantizeNetEnv(net="lenet", bitwidths=[1, 4, 8]), (2, 3, 4, 5, 6, 7, 8))
    assert env.actions == [0, 1, 1, 1, 1, 2, 2]
    assert env.action_space.n == 7


def test_it_tells_of_the_environments_own_bitwidths(policy):
    ledger, shown = Ledger(30), []
    one = agent(policy, "lenet-mnist-uniform-ptq-w1to8", ledger, walks=1)
    watch = Silent()
    watch.after_step = lambda: not ledger.spent
    watch.after_rollout = shown.append
    one.learn(2_000, watch)
    one.close()
    assert shown[0].shape == (4, 8)
    assert (shown[0][:, 0] == 0).all()
    np.testing.assert_allclose(shown[0].sum(axis=1), 1.0, rtol=1e-5)


def test_what_is_shipped_knows_no_network_that_anybody_searches():
    assert set(read_card(SHIPPED).nets) == {"synthetic"}
    ours = agent(None, task="lenet-mnist-uniform-ptq-w1to8")
    assert ours.card == read_card(SHIPPED)
    ours.close()


def test_policies_that_do_not_fit_are_answered_in_a_sentence(policy, tmp_path):
    with pytest.raises(ValueError, match=r"pretrained on observation='layer'.*shows 'paper'"):
        agent(policy, observation="paper")
    with pytest.raises(ValueError, match="cannot be read"):
        agent(tmp_path / "nothing.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(policy.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        agent(tmp_path / "damaged.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"holds no policy of `python -m agents.pretrain`"):
        agent(tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="do not fit this policy"):
        load_policy(policy, torch.nn.Linear(1, 1))


def test_the_commands_pretrain_and_train(tmp_path, capsys):
    path = tmp_path / "policy.safetensors"
    words = ["--nets", "lenet", "--landscapes", "1", "--steps", "32", "--copies", "2"]
    words += ["--rollout", "16", "--batch-size", "64", "--output", str(path)]
    assert pretrain_command(words) == 0
    assert "64 steps on lenet, synthetic" in capsys.readouterr().out
    assert pretrain_command(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert pretrain_command([*words[:-1], str(path / "below")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    run = ["--agent", "pretrained", "--task", "synthetic-4-0", "--policy", str(path)]
    run += ["--evaluation-budget", "20", "--n-envs", "2", "--folder", str(tmp_path / "run")]
    assert train(run) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["searcher"], result["evaluations"]) == ("pretrained", 20)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"steps": 0}, "steps=0 has to be at least 1"),
     ({"landscapes": -3}, "landscapes=-3 has to be 0 or more"),
     ({"nets": (), "landscapes": 0}, "Name nets to pretrain on, or landscapes")],
)  # fmt: skip
def test_impossible_plans_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(TINY, **wrong)
