import copy
import json
import pickle
import signal

import gymnasium as gym
import numpy as np
import pytest
from toys import ToyEvaluator, toy_problem

from releq_gym import Ledger
from releq_gym import ledger as ledger_module
from releq_gym.env import QuantizeNetEnv
from releq_gym.pareto import pareto_set


def test_distinct_budget_lets_one_ask_again():
    ledger, problem = Ledger(evaluation_budget=1), toy_problem()
    assert ledger.affords(problem, (8, 8, 8))
    ledger.charge(problem, (8, 8, 8), 0.9, 5.0)
    assert ledger.spent
    assert ledger.affords(problem, (8, 8, 8))
    assert not ledger.affords(problem, (4, 8, 8))


def test_fresh_budget_counts_every_answer():
    ledger, problem = Ledger(evaluation_budget={"fresh": 1}), toy_problem()
    ledger.charge(problem, (8, 8, 8), 0.9, 5.0)
    assert not ledger.affords(problem, (8, 8, 8))
    assert (ledger.fresh, ledger.distinct, ledger.milliseconds) == (1, 1, 5.0)


def test_answer_is_the_best_objective_at_the_mean_accuracy():
    ledger, problem = Ledger(), toy_problem()
    ledger.charge(problem, (4, 4, 4), 0.90, 0)
    ledger.charge(problem, (2, 4, 4), 0.90, 0)  # one lucky answer
    ledger.charge(problem, (2, 4, 4), 0.80, 0, repeat=1)
    answer = ledger.best(problem)
    assert answer.bitwidths == (4, 4, 4)
    assert answer.objective == pytest.approx(0.5)
    assert answer.repeats == 1


def test_the_same_repeat_is_no_new_evidence():
    ledger, problem = Ledger(), toy_problem()
    for repeat, accuracy in ((0, 0.9), (0, 0.9), (0, 0.9), (1, 0.8)):
        ledger.charge(problem, (4, 4, 4), accuracy, repeat=repeat)
    assert ledger.cells(problem)[4, 4, 4].accuracy == pytest.approx(0.85)
    assert ledger.cells(problem)[4, 4, 4].visits == ledger.fresh == 4


def test_the_mean_of_all_repeats_supersedes_single_ones():
    ledger, problem = Ledger(), toy_problem()
    ledger.charge(problem, (4, 4, 4), 0.9, repeat=3)
    ledger.charge(problem, (4, 4, 4), 0.8, repeat=-1)
    assert ledger.cells(problem)[4, 4, 4].accuracy == 0.8


def test_answer_keeps_a_standard_error_from_the_floor():
    # 1,000 images: a loss of 0.9 points has a standard error of 0.3.
    ledger, problem = Ledger(), toy_problem()
    assert problem.caution(0.9 - 0.009) == pytest.approx(0.003)
    assert problem.caution(0.95) == 0
    ledger.charge(problem, (2, 4, 4), 0.9 - 0.009, 0)
    ledger.charge(problem, (4, 4, 4), 0.9 - 0.004, 0)
    assert ledger.best(problem).bitwidths == (4, 4, 4)


def test_ties_go_to_the_lower_cost():
    ledger, problem = Ledger(), toy_problem(reward=lambda transition: 1.0)
    for bitwidths in ((8, 8, 8), (4, 4, 4), (8, 4, 8)):
        ledger.charge(problem, bitwidths, 0.9, 0)
    assert ledger.best(problem).bitwidths == (4, 4, 4)


def test_nothing_asked_means_no_answer():
    assert Ledger().best(toy_problem()) is None


def test_problems_on_one_evaluator_share_their_cells():
    ledger = Ledger()
    ledger.charge(toy_problem(), (8, 8, 8), 0.9, 0)
    ledger.charge(toy_problem(), (8, 8, 8), 0.8, 0, repeat=1)
    assert ledger.distinct == 1
    assert ledger.cells(toy_problem())[8, 8, 8].accuracy == pytest.approx(0.85)


@pytest.mark.parametrize("dense", [0, ledger_module.DENSE])
@pytest.mark.parametrize("pending", [2, 30, 300])
def test_charging_many_at_once_is_charging_each(monkeypatch, pending, dense):
    monkeypatch.setattr(ledger_module, "PENDING", pending)
    monkeypatch.setattr(ledger_module, "DENSE", dense)
    rng, problem = np.random.default_rng(0), toy_problem()
    together, alone = Ledger(), Ledger()
    for _ in range(20):
        bitwidths, repeats = rng.choice([2, 4, 8], size=(7, 3)), rng.integers(-1, 4, size=7)
        accuracies = bitwidths.sum(axis=1) / 30 + repeats / 100
        together.charge_many(problem, bitwidths, accuracies, repeats, 7.0)
        for row, accuracy, repeat in zip(bitwidths, accuracies, repeats, strict=True):
            alone.charge(problem, tuple(row.tolist()), float(accuracy), 1.0, int(repeat))
    assert together.fresh == alone.fresh and together.milliseconds == alone.milliseconds
    assert list(together.cells(problem).items()) == list(alone.cells(problem).items())


@pytest.mark.parametrize("many", [False, True])
def test_an_interruption_leaves_no_empty_cell(monkeypatch, many):
    class Interrupting(ledger_module.Cell):
        @property
        def accuracies(self):
            raise RuntimeError("as Ctrl-C would be")

        @accuracies.setter
        def accuracies(self, value):
            pass

    ledger, problem = Ledger(), toy_problem()
    with monkeypatch.context() as interrupted, pytest.raises(RuntimeError):
        interrupted.setattr(ledger_module, "Cell", Interrupting)
        if many:
            ledger.charge_many(problem, np.array([[8, 8, 8]]), np.array([0.9]), np.array([0]))
            ledger.cells(problem)
        else:
            ledger.charge(problem, (8, 8, 8), 0.9)
    assert [cell.accuracies for cell in ledger.cells(problem).values()] == [{0: 0.9}] * many


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_at_the_end_of_an_episode_loses_nothing(tmp_path, monkeypatch):
    env = gym.make("releq/QuantizeNet-v0", net="digits", log=tmp_path / "log.jsonl").unwrapped
    env.reset(seed=0)
    env.step(0)
    write = env.ledger.write

    def interrupted(record):
        signal.raise_signal(signal.SIGINT)
        write(record)

    monkeypatch.setattr(env.ledger, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        env.close()
    (_, episode) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert episode["cut"] and episode["actions"] == [0]


def test_cells_are_in_the_order_of_first_visits():
    ledger, problem = Ledger(), toy_problem()
    ledger.charge_many(problem, np.array([[8, 8, 8]]), np.array([0.9]), np.array([0]))
    ledger.charge(problem, (2, 2, 2), 0.6)
    assert list(ledger.cells(problem)) == [(8, 8, 8), (2, 2, 2)]


def test_copies_share_and_pickles_do_not():
    ledger = Ledger(evaluation_budget=5)
    assert copy.deepcopy(ledger) is ledger
    ledger.charge(toy_problem(), (8, 8, 8), 0.9, 0)
    twin = pickle.loads(pickle.dumps(ledger))
    assert twin.distinct == 1 and twin is not ledger


@pytest.mark.parametrize("budget", [0, -1, {"distinct": 0}, {"minutes": 3}, {}])
def test_wrong_budgets_get_a_sentence(budget):
    with pytest.raises(ValueError, match="evaluation_budget"):
        Ledger(evaluation_budget=budget)


def test_log_is_json_lines(tmp_path):
    path = tmp_path / "folder" / "log.jsonl"
    ledger = Ledger(log=path)
    assert ledger.join(toy_problem().describe()) == 0
    ledger.write({"a": 1})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["task"]["evaluator"] == ToyEvaluator.name
    assert lines[1] == {"a": 1}


def test_a_log_has_one_writer(tmp_path):
    ledger = Ledger(log=tmp_path / "log.jsonl")
    ledger.join(toy_problem().describe())
    twin = pickle.loads(pickle.dumps(ledger))
    with pytest.raises(ValueError, match="belongs to the ledger that began it"):
        twin.join()
    ledger.join()
    assert len(ledger.log.read_text().splitlines()) == 2


def test_a_log_stays_where_it_was_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(log="log.jsonl")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ledger.join()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("log", "sentence"), [(".", "is a folder"), (True, "has to name a file")])
def test_what_is_no_file_cannot_be_a_log(log, sentence):
    with pytest.raises(ValueError, match=sentence):
        Ledger(log=log)


def test_numbers_of_numpy_are_numbers(tmp_path):
    assert Ledger(np.int64(3)).evaluation_budget == {"distinct": 3}
    ledger = Ledger(log=tmp_path / "log.jsonl")
    ledger.write({"limit": np.float32(0.5), "bits": np.array([2, 4]), "seed": np.int64(1)})
    assert json.loads(ledger.log.read_text()) == {"limit": 0.5, "bits": [2, 4], "seed": 1}
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        ledger.write({"object": object()})


def test_an_answer_by_the_mean_knows_all_repeats():
    ledger, problem = Ledger(), toy_problem()
    ledger.charge(problem, (8, 8, 8), 0.9, repeat=-1)
    assert ledger.best(problem).repeats == 4


def test_assignments_are_granted_in_turn():
    ledger, problem = Ledger(2), toy_problem()
    ledger.charge(problem, (8, 8, 8), 0.9)
    asked = [(4, 8, 8), (8, 8, 8), (2, 8, 8), (4, 8, 8)]
    assert ledger.affords_in_turn(problem, asked) == [True, True, False, True]
    assert ledger.count(problem) == 1
    fresh = Ledger({"fresh": 3})
    fresh.charge(problem, (8, 8, 8), 0.9)
    assert fresh.affords_in_turn(problem, asked) == [True, True, False, False]


def test_what_is_forgotten_stays_counted():
    ledger, problem = Ledger(5), toy_problem()
    ledger.charge(problem, (8, 8, 8), 0.9)
    ledger.charge(problem, (4, 8, 8), 0.9)
    ledger.forget(problem)
    assert (ledger.distinct, ledger.left, ledger.cells(problem)) == (2, 3, {})


def test_among_equals_of_one_cost_the_more_accurate_is_the_answer():
    """A cost model with plateaus, as of hardware that knows few bitwidths."""
    ledger = Ledger()
    problem = toy_problem(
        cost_model=lambda layers, bitwidths: {
            "cycles": np.outer([layer.macs for layer in layers], np.maximum(bitwidths, 4))
        }
    )
    for bitwidths, accuracy in [
        ((4, 4, 2), 0.895),
        ((2, 4, 2), 0.899),
        ((4, 2, 4), 0.899),
        ((4, 2, 2), 0.893),
    ]:
        ledger.charge(problem, bitwidths, accuracy)
        assert ledger.best(problem).bitwidths in {p.bitwidths for p in pareto_set(ledger, problem)}
    assert ledger.best(problem).bitwidths == (4, 2, 4)
    assert [point.bitwidths for point in pareto_set(ledger, problem)] == [(4, 2, 4)]


def test_it_says_what_was_revealed():
    env = QuantizeNetEnv(task="synthetic-4-0", evaluation_budget=9)
    env.reset(seed=0)
    for _ in range(4):
        env.step(0)
    told = "Ledger({'distinct': 9}): 1 different assignments, 1 accuracies, 1 environments"
    assert repr(env.ledger) == told
