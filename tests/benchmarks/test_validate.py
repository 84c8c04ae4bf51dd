import copy
import gzip
import json
import re
import signal

import gymnasium as gym
import numpy as np
import pytest
from toys import ToyEvaluator, toy_task

from benchmarks.rows import append_rows
from benchmarks.runs import Job, answers, known_rows, score, scorer_of
from benchmarks.runs import run as run_job
from benchmarks.validate.__main__ import main
from benchmarks.validate.digests import content_sha256
from benchmarks.validate.replay import replay
from benchmarks.validate.verdict import validate
from releq_gym.env import QuantizeNetEnv
from releq_gym.ledger import Ledger
from releq_gym.replay import read_revealed
from releq_gym.result import Result, write_result
from releq_gym.searchers import SEARCHERS, confirm
from releq_gym.several_nets import SeveralNetsEnv
from releq_gym.tasks.score import make_scorer
from releq_gym.vector_env import QuantizeNetVectorEnv
from releq_gym.wrappers import HardwareCost

DIGITS = "digits-digits-wrpn-short-w2to8"
"""Four layers, ten noisy repeats."""


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Behind the random mean of landscapes, which takes seconds."""
    monkeypatch.setattr("releq_gym.tasks.score.RANDOM_DRAWS", 50)
    scorer_of.cache_clear()
    yield
    scorer_of.cache_clear()


def play(env, episodes, seed=None, rng=None):
    """Random episodes on few assignments, so that many come again."""
    rng = rng or np.random.default_rng(0)
    for episode in range(episodes):
        env.reset(seed=seed if episode == 0 else None)
        over = False
        while not over:
            *_, terminated, truncated, _ = env.step(int(rng.integers(1, 3)))
            over = terminated or truncated


def single(log, episodes=25, seed=3, budget=None, **options):
    env = QuantizeNetEnv(**{"task": DIGITS, **options}, ledger=Ledger(budget, log))
    play(env, episodes, seed)
    env.close()
    return env.ledger


def granted(log):
    """A run that met its budget, and went on with a higher one, as if resumed."""
    ledger = single(log, budget=6)
    ledger.evaluation_budget = 9
    env = QuantizeNetEnv(task=DIGITS, ledger=ledger)
    play(env, 25, 8)
    env.close()
    return ledger


def unseeded(log):
    return single(log, seed=None)


def reseeded(log):
    env = QuantizeNetEnv(task=DIGITS, log=log)
    for seed in (5, 6, 5):
        play(env, 4, seed)
    return env.ledger


def cut(log):
    env = QuantizeNetEnv(task=DIGITS, evaluate="every_step", log=log)
    for seed in (1, None, None):
        env.reset(seed=seed)
        env.step(4)
    env.close()
    return env.ledger


def shared(log):
    """In turns, each step measured, until the budget ends both."""
    ledger, rng = Ledger(25, log), np.random.default_rng(1)
    envs = [QuantizeNetEnv(task=DIGITS, evaluate="every_step", ledger=ledger) for _ in range(2)]
    over = [True, True]
    for round_ in range(60):
        for seed, env in enumerate(envs):
            if over[seed]:
                env.reset(seed=seed if round_ == 0 else None)
            *_, terminated, truncated, _ = env.step(int(rng.integers(7)))
            over[seed] = terminated or truncated
    for env in envs:
        env.close()
    return ledger


def vector(log, mode="SameStep", **options):
    env = QuantizeNetVectorEnv(5, mode, task=DIGITS, ledger=Ledger(20, log), **options)
    env.reset(seed=[3, None, 4, 4, None])
    rng = np.random.default_rng(2)
    for _ in range(40):
        env.step(rng.choice([0, 3, 6], size=5))
    env.close()
    return env.ledger


def copied(log):
    env = QuantizeNetEnv(task=DIGITS, evaluate="every_step", log=log)
    play(env, 2, 0)
    env.reset()
    env.step(3)
    twin = copy.deepcopy(env)
    late = copy.deepcopy(twin)
    for one, actions in ((twin, [3, 3, 3]), (env, [3, 3, 3]), (late, [3])):
        for action in actions:
            one.step(action)
    for one in (twin, env, late, copy.deepcopy(env)):
        play(one, 2, rng=np.random.default_rng(5))
        one.close()
    return env.ledger


def other_cost_of_a_copy(log):
    env = QuantizeNetEnv(task=DIGITS, log=log)
    play(env, 2, 0)
    twin = copy.deepcopy(env)
    play(twin, 3)
    twin = HardwareCost(twin, "model_size")
    play(twin, 3)
    twin.close()
    play(env, 3)
    return env.ledger


def other_cost(log):
    """Noise goes on where it stood."""
    env = QuantizeNetEnv(task=DIGITS, log=log)
    play(env, 3, 0)
    env.reset()
    env.step(2)
    env = HardwareCost(env, "model_size", {"bytes": 3_000.0}, {"scale_bytes": 8})
    play(env, 3)
    return env.unwrapped.ledger


def several(log):
    env = SeveralNetsEnv(["digits", "synthetic-5-any"], log=log)
    play(env, 12, 0)
    env.close()
    return env.ledger


def frozen(log):
    env = gym.make("releq/DigitsWRPN-v0", log=log)
    play(env, 5, 0)
    return env.unwrapped.ledger


def restricted(log):
    groups, fixed = [["conv1", "fc1"]], {"conv2": 8}
    return single(
        log, groups=groups, fixed_bitwidths=fixed, bitwidths=[2, 3, 7], cost_budget={"cost": 0.6}
    )


RUNS = {
    "single": single,
    "unseeded": unseeded,
    "reseeded": reseeded,
    "mean": lambda log: single(log, noise="mean"),
    "synthetic": lambda log: single(log, task="synthetic-5-1", budget=10),
    "surrogate": lambda log: single(log, task=None, net="vgg11", reward="ratio"),
    "telescoped": lambda log: single(
        log, reward="releq", reward_kwargs={"a": 0.3}, reward_timing="telescoped", gamma=0.9
    ),
    "every step": lambda log: single(log, reward_timing="every_step", observation="full"),
    "measured only": lambda log: single(log, evaluate="every_step", cost="weight_serial"),
    "budget": lambda log: single(log, budget=6),
    "raised budget": granted,
    "fresh budget": lambda log: single(log, budget={"fresh": 9}, evaluate="every_step"),
    "restricted": restricted,
    "cut": cut,
    "shared": shared,
    "vector": vector,
    "vector, every step": lambda log: vector(log, "NextStep", reward_timing="telescoped"),
    "copied": copied,
    "other cost": other_cost,
    "other cost of a copy": other_cost_of_a_copy,
    "several": several,
    "frozen": frozen,
}


@pytest.mark.parametrize("name", RUNS)
def test_whatever_an_environment_writes_agrees(tmp_path, name):
    log = tmp_path / "some.jsonl"
    ledger = RUNS[name](log)
    verdict = validate(log)
    assert (verdict.status, verdict.differences, verdict.unchecked) == ("agrees", (), ())
    assert (verdict.fresh, verdict.distinct) == (ledger.fresh, ledger.distinct)
    assert verdict.budget == ledger.evaluation_budget and verdict.answers


def test_budgets_of_these_runs_refuse(tmp_path):
    for name in (
        "synthetic",
        "budget",
        "raised budget",
        "fresh budget",
        "shared",
        "vector",
        "vector, every step",
    ):
        log = tmp_path / f"{name}.jsonl"
        RUNS[name](log)
        assert '"refused":' in log.read_text(), name


def test_the_answer_is_that_of_the_run_and_its_regret_that_of_the_scorer(tmp_path):
    log = tmp_path / "some.jsonl"
    env = QuantizeNetEnv(task=DIGITS, log=log)
    play(env, 40, 0)
    answer = env.ledger.best(env.problem)
    scorer = make_scorer(env.problem)
    regrets = [each(answer.bitwidths) for each in (scorer.search_regret, scorer.regret)]
    regret = "regret {:.6f} on search data, {:.6f} on report data".format(*regrets)
    (text,) = validate(log).answers
    bitwidths = f"{' '.join(map(str, answer.bitwidths))} (known by {answer.repeats} of 10 repeats)"
    assert text == f"answer {bitwidths}, objective {answer.objective:.6f}, {regret}"


# Alterations


def read(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def write(log, records):
    log.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A description, 18 answered episodes (lines 2 to 19) and 12 others, some of them refused."""
    log = tmp_path_factory.mktemp("honest") / "some.jsonl"
    env = QuantizeNetEnv(task=DIGITS, ledger=Ledger(9, log))
    play(env, 30, 3, np.random.default_rng(4))
    records = read(log)
    assert any("refused" in record for record in records)
    return records


@pytest.mark.parametrize(
    ("environment", "budget", "difference"),
    [
        (0, 9, "refused, within the budget of {'distinct': 9}"),
        (0, 5, "revealed, beyond the budget of {'distinct': 5}"),
        (1, 12, "refused, within the budget of {'distinct': 12}"),
        (1, 8, "revealed, beyond the budget of {'distinct': 8}"),
        (1, 4, "an evaluation budget of {'distinct': 4}, earlier {'distinct': 6}"),
    ],
)
def test_a_raised_budget_counts_from_its_environment_on(tmp_path, environment, budget, difference):
    log = tmp_path / "some.jsonl"
    granted(log)
    records = read(log)
    joined = [record for record in records if "task" in record]
    joined[environment]["evaluation_budget"]["distinct"] = budget
    write(log, records)
    assert difference in " ".join(validate(log).differences)


def put(line, value, *path):
    def change(records):
        *parents, name = path
        place = records[line - 1]
        for parent in parents:
            place = place[parent]
        assert (place[name] if isinstance(place, list) else place.get(name)) != value
        place[name] = value

    return change


def renumber(records):
    """As a forger would who knows of the numbers."""
    number = 0
    for record in records:
        for one in record.get("revealed", ()):
            number += 1
            one[3] = number
        if "refused" in record:
            record["refused"] = number


def hide(line):
    """Together with its number."""

    def change(records):
        del records[line - 1]
        renumber(records)

    return change


def another_seed(records):
    records[1]["seed"] = 4


def lower_budget(records):
    records[0]["evaluation_budget"]["distinct"] = 6


def higher_budget(records):
    records[0]["evaluation_budget"]["distinct"] = 60


def forget(records):
    """An answer that is said to have been refused."""
    del records[4]["revealed"][0]
    records[4] |= {"refused": 3, "rewards": [0.0] * 4}


ALTERATIONS = {
    "accuracy": (put(5, 0.99, "revealed", 0, 2), r"line 5: accuracy 0\.99 \(repeat \d\) after"),
    "repeat": (put(5, 10, "revealed", 0, 1), r"line 5: accuracy .* \(repeat 10\) after step 4"),
    "reward": (put(5, 0.9, "rewards", 3), r"line 5: a reward of 0\.9 after step 4, replayed"),
    "action": (put(5, 0, "actions", 1), "line 5: bitwidths"),
    "impossible action": (put(5, 7, "actions", 1), "line 5: an action that is none of 0 to 6"),
    "bitwidths": (put(5, 2, "bitwidths", 1), "line 5: bitwidths . 2 . ., replayed"),
    "cut": (put(5, True, "cut"), "line 5: an episode that was cut, at its end"),
    "copied": (put(5, 4, "copied"), "line 5: a copy, of no environment"),
    "seed": (another_seed, r"line \d+: accuracy .*, replayed"),
    "no seed": (put(2, None, "seed"), "line 2: noise without a seed"),
    "lower budget": (lower_budget, r"revealed, beyond the budget of \{'distinct': 6\}"),
    "higher budget": (higher_budget, r"refused, within the budget of \{'distinct': 60\}"),
    "forgotten answer": (forget, "line 5: refused, within the budget"),
    "dropped line": (
        lambda records: records.pop(4),
        "line 5: revealed before, .*: accuracy number 4",
    ),
    "dropped lines": (
        lambda records: records.__delitem__(slice(4, 7)),
        "missing: accuracy numbers 4 to 6",
    ),
    "swapped lines": (
        lambda records: records.insert(4, records.pop(5)),
        "line 6: accuracies out of order",
    ),
    "doubled line": (
        lambda records: records.insert(5, copy.deepcopy(records[4])),
        "line 6: accuracy number 4 again, as in line 5",
    ),
    "hidden, revisited": (hide(5), r"line \d+: accuracy .* replayed"),
    "another reward": (
        put(1, "AccuracyFloor(max_loss_points=9.0)", "task", "reward"),
        "a reward of",
    ),
    "another bound": (put(1, 9.0, "task", "max_loss_points"), "line 1: max_loss_points is 9.0 in"),
    "another version": (put(1, f"table:{DIGITS}/9.0.0", "task", "evaluator"), "line 1: evaluator"),
    "another noise": (put(1, "mean", "task", "noise"), "line 2: accuracy"),
    "another timing": (put(1, "every_step", "task", "evaluate"), "1 accuracies revealed, 4 repl"),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alterations_are_found(tmp_path, honest, name):
    change, expected = ALTERATIONS[name]
    records, log = copy.deepcopy(honest), tmp_path / "some.jsonl"
    write(log, records)
    assert validate(log).status == "agrees"
    change(records)
    write(log, records)
    assert validate(log).status == "differs"
    differences = validate(log).differences
    assert any(re.search(expected, text) for text in differences), differences


def test_what_a_log_alone_cannot_tell_agrees(tmp_path, honest):
    """As the README of the benchmark says."""
    log = tmp_path / "some.jsonl"
    write(log, honest[:12])  # as if the run had been stopped
    assert validate(log).status == "agrees"
    single(log.with_name("exact.jsonl"), task="synthetic-5-1", seed=3)
    records = read(log.with_name("exact.jsonl"))
    hide(5)(records)  # without noise, and renumbered
    put(2, 4, "seed")(records)
    write(log, records)
    assert validate(log).status == "agrees"
    write(log, records[:4] + records[5:])  # but not where the numbers are left alone
    assert validate(log).status == "differs"


def test_a_task_of_ones_own_is_found_in_its_folder_by_its_version(tmp_path, capsys):
    first = toy_task(tmp_path / "tasks" / "1.0.0")
    log = tmp_path / "some.jsonl"
    env = QuantizeNetEnv(task=first, log=log)
    env.reset(seed=0)
    env.step(1), env.step(2)
    assert main([str(log)]) == 2
    assert "neither shipped nor in a folder of --tasks" in capsys.readouterr().out
    assert main([str(log), "--tasks", str(tmp_path / "tasks")]) == 0
    (tmp_path / "tasks" / "another").mkdir()
    (tmp_path / "tasks" / "another" / "card.json").write_text("{}")
    assert main([str(log), "--tasks", str(tmp_path / "tasks")]) == 0
    log.write_text(log.read_text().replace("/1.0.0", "/2.0.0"))
    assert main([str(log), "--tasks", str(tmp_path / "tasks")]) == 2


def test_what_was_measured_by_others_is_checked_for_charges_alone(tmp_path):
    log = tmp_path / "some.jsonl"
    env = QuantizeNetEnv(evaluator=ToyEvaluator(), ledger=Ledger(3, log))
    for actions in ([0, 0, 0], [1, 1, 1], [1, 1, 1], [2, 2, 2], [0, 1, 2]):
        env.reset()
        for action in actions:
            env.step(action)
    verdict = validate(log)
    assert (verdict.status, verdict.differences) == ("cannot be checked", ())
    assert "Charges and budget are checked" in verdict.unchecked[0]
    assert (verdict.fresh, verdict.distinct) == (4, 3) and not verdict.answers
    records = read(log)
    lower_budget(records)
    records[0]["evaluation_budget"]["distinct"] = 2
    write(log, records)
    assert "line 5: revealed, beyond" in validate(log).differences[0]


def test_a_reward_of_ones_own_is_not_executed(tmp_path, honest):
    log, records = tmp_path / "some.jsonl", copy.deepcopy(honest)
    for reward in ("mine", "open('x', 'w')", "AccuracyFloor(max_loss_points=open('x', 'w'))"):
        records[0]["task"]["reward"] = reward
        write(log, records)
        verdict = validate(log)
        assert verdict.status == "cannot be checked" and "is none of" in verdict.unchecked[0]


def test_logs_of_old_are_read_but_prove_less(tmp_path, honest):
    log, records = tmp_path / "some.jsonl", copy.deepcopy(honest)
    del records[0]["evaluation_budget"]
    for record in records[1:]:
        record["revealed"] = [one[:3] for one in record["revealed"]]
        record.pop("refused", None)
    write(log, records)
    verdict = validate(log)
    assert verdict.status == "cannot be checked" and not verdict.differences
    assert "have no numbers" in verdict.unchecked[1]


BEGUN = '{"env": 0, "task": {"evaluator": "synthetic-4-0", "start": [8], "groups": [[0]]}}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "describes no environment"),
        ('{"env": 0}\n', "Line 1 is no line"),
        ('{"env": 0, "task": {}}\n', "Line 1 is no line"),
        (BEGUN + '{"env"}\n', "Line 2 is no line"),
        (BEGUN * 2, "begins environment 0 a second time"),
        ('{"env": 1, "continues": 0}\n', "environment 0, which never began"),
        (BEGUN.replace("[[0]]", "[[1]]"), "groups [[1]] of 1 layers"),
        (BEGUN, "damaged: KeyError('reward')"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, text, expected):
    log = tmp_path / "some.jsonl"
    log.write_text(text)
    verdict = validate(log)
    assert verdict.status == "cannot be checked" and expected in " ".join(verdict.unchecked)


def test_a_measurement_that_failed_leaves_an_honest_log(tmp_path, monkeypatch):
    log = tmp_path / "some.jsonl"
    env = QuantizeNetEnv(task=DIGITS, log=log)
    play(env, 5, seed=3)

    def fail(bitwidths, repeat):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(env.problem.evaluator, "evaluate", fail)
        with pytest.raises(KeyboardInterrupt):
            play(env, 1)
    play(env, 5)
    assert validate(log).status == "agrees"


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("many", [False, True])
def test_ctrl_c_between_charge_and_log_waits(tmp_path, monkeypatch, many):
    log = tmp_path / "some.jsonl"
    options = {"task": DIGITS, "log": log, "reward_timing": "telescoped"}
    env = QuantizeNetVectorEnv(2, **options) if many else QuantizeNetEnv(**options)
    name = "charge_many" if many else "charge"
    charge, action = getattr(Ledger, name), np.array([3, 3]) if many else 3

    def interrupted(*args):
        charge(*args)
        signal.raise_signal(signal.SIGINT)

    env.reset(seed=0)
    for _ in range(2):
        env.step(action)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Ledger, name, interrupted)
        env.step(action)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    env.close()
    verdict = validate(log)
    assert (verdict.status, verdict.fresh) == ("agrees", env.ledger.fresh)


@pytest.mark.parametrize("many", [False, True])
def test_a_reward_that_fails_leaves_an_honest_log(tmp_path, many):
    log, answers = tmp_path / "some.jsonl", iter([1.0, 2.0])
    options = {"task": DIGITS, "log": log, "reward": lambda transition: next(answers)}
    env = QuantizeNetVectorEnv(1, **options) if many else QuantizeNetEnv(**options)
    with pytest.raises(ValueError, match=r"raised StopIteration in line \d+ of test_validate.py"):
        for _ in range(3):
            env.reset()
            for _ in range(4):
                env.step(np.array([3]) if many else 3)
    env.close()
    revealed = [json.loads(line)["revealed"] for line in log.read_text().splitlines()[1:]]
    assert sum(map(len, revealed)) == env.ledger.fresh == 2


def test_a_last_line_that_is_cut_is_told(tmp_path, honest, capsys):
    log = tmp_path / "some.jsonl"
    write(log, honest)
    whole = log.read_bytes()
    for content, is_cut in ((whole, False), (whole[:-5], True)):
        log.write_bytes(content)
        assert main([str(log)]) == 0
        assert ("its last line is incomplete" in capsys.readouterr().out) == is_cut
    assert validate(log).episodes == len(honest) - 2


def test_compressed_logs_are_read_and_damaged_ones_refused(tmp_path, honest):
    text = "".join(json.dumps(record) + "\n" for record in honest)
    log = tmp_path / "some.jsonl.gz"
    log.write_bytes(gzip.compress(text.encode()))
    assert validate(log).status == "agrees"
    log.write_bytes(log.read_bytes()[:-30])
    assert "cannot be read" in validate(log).unchecked[0]


def test_blocks_of_a_log_are_no_seams(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.validate.replay.BLOCK", 3)
    for run in (copied, other_cost, vector):
        log = tmp_path / f"{run.__name__}.jsonl"
        run(log)
        assert validate(log).status == "agrees"


# Claims


@pytest.fixture
def searched(tmp_path):
    """A run folder, and its table of results."""
    folder = tmp_path / "logs" / DIGITS / "random" / "0"
    env = QuantizeNetEnv(task=DIGITS, ledger=Ledger(40, folder / "log.jsonl"))
    env.reset(seed=0)
    SEARCHERS["random"](env, np.random.default_rng(0))
    confirm(env)
    env.close()
    job, problem = Job(DIGITS, "random", 0), env.problem
    revealed = read_revealed(folder / "log.jsonl", problem)
    rows = []
    budgets = 10, 40
    found = answers(job, revealed, problem, budgets)
    for budget, one in zip(budgets, found, strict=True):
        rows.append(
            {
                **job._asdict(),
                "budget": budget,
                "bitwidths": " ".join(map(str, one.answer.bitwidths)),
                "regret": make_scorer(problem).regret(one.answer.bitwidths),
                "fresh": one.fresh,
            }
        )
    best = env.ledger.best(problem)
    run = {"finished": True, "data": None, "searcher": "random", "seconds": 1.0, "command": ""}
    result = Result.of(problem, env.ledger, best, seed=0, **run)
    write_result(folder, result)
    return folder, rows


def test_a_run_folder_is_validated_with_its_result(searched, capsys):
    folder, _ = searched
    assert main([str(folder)]) == 0
    assert "claims 1" in capsys.readouterr().out
    result = json.loads((folder / "result.json").read_text())
    changes = {
        "bitwidths": [2, 2, 2, 2],
        "objective": result["objective"] + 0.001,
        "evaluations": 39,
        "fresh": result["fresh"] - 1,
        "task": "synthetic-4-0",
        "net": "lenet",
        "seed": 1,
        "layers": result["layers"][::-1],
        "accuracy": str(result["accuracy"]),
        "max_loss_points": 0.1,
        "cost_model": "ModelSize()",
        "figures": {"mac_bits": 1.0},
        "cost_budget": {"cost": 0.4},
        "full_precision_accuracy": 0.5,
    }
    for name, value in changes.items():
        (folder / "result.json").write_text(json.dumps({**result, name: value}))
        assert main([str(folder)]) == 1, name
        assert "result.json: " in capsys.readouterr().out
    measured = {"bitwidths": result["bitwidths"][::-1], "accuracy": 0.9}
    about = {name: measured for name in ("full_precision", "checkpoint", "uniform", "chosen")}
    report = {"source": "", "images": 10, **about}
    (folder / "result.json").write_text(json.dumps({**result, "report": report}))
    assert main([str(folder)]) == 1
    assert "its report is of" in capsys.readouterr().out
    # A run that goes on may have written its result before.
    unfinished = {**result, "finished": False, "fresh": result["fresh"] + 1}
    (folder / "result.json").write_text(json.dumps(unfinished))
    assert main([str(folder)]) == 1


def test_rows_are_validated_at_each_budget(searched, tmp_path, capsys):
    folder, rows = searched
    (folder / "result.json").unlink()
    log = (folder / "log.jsonl").rename(folder.with_suffix(".jsonl"))
    path = tmp_path / "rows.csv"
    others = [{**rows[0], "searcher": "local_search"}]
    append_rows(path, rows + others, list(rows[0]))
    assert main([str(log), "--claims", str(path)]) == 0
    assert "2 of 3 rows are about these logs." in capsys.readouterr().out
    changes = {"bitwidths": "2 2 2 2", "regret": 0.0, "fresh": 41}
    for name, value in changes.items():
        path.unlink()
        append_rows(path, [rows[0], {**rows[1], name: value}], list(rows[0]))
        assert main([str(log), "--claims", str(path)]) == 1, name
        assert f"rows.csv, line 3: {name} {value}" in capsys.readouterr().out
    path.unlink()
    forged = {**rows[0], "regret": 0.0}  # before a true one of the same budget
    append_rows(path, [forged, *rows], list(rows[0]))
    assert main([str(log), "--claims", str(path)]) == 1
    assert "rows.csv, line 2: regret 0.0" in capsys.readouterr().out
    stranger = log.rename(log.with_name("stranger.jsonl"))
    assert main([str(stranger), "--claims", str(path)]) == 2
    assert "No row of the claims is about it" in capsys.readouterr().out


def test_an_empty_cell_and_a_walk_are_claims(searched, tmp_path, capsys):
    folder, rows = searched
    (folder / "result.json").unlink()
    path, worth = tmp_path / "rows.csv", scorer_of(DIGITS).search_regret((4, 4, 4, 4))
    columns = [*rows[0], "walk", "walk_search_regret"]
    walked = {**rows[1], "walk": "4 4 4 4", "walk_search_regret": worth}
    claims = {
        "": walked,
        "regret is empty": {**walked, "regret": ""},
        "walk_search_regret 0.0 claimed": {**walked, "walk_search_regret": 0.0},
        "walk_search_regret of no walk": {**walked, "walk": ""},
    }
    for text, row in claims.items():
        path.unlink(missing_ok=True)
        append_rows(path, [rows[0], row], columns)
        assert main([str(folder), "--claims", str(path)]) == bool(text)
        assert text in capsys.readouterr().out


def test_a_log_of_another_seed_is_not_that_of_a_row(tmp_path, capsys):
    log = tmp_path / "synthetic-4-0" / "random" / "3.jsonl"
    rows = run_job(Job("synthetic-4-0", "random", 3), (10,), log)
    renamed = log.rename(log.with_name("4.jsonl"))  # no noise: all else is the same
    path = tmp_path / "rows.csv"
    append_rows(path, [{**rows[0], "seed": 4}], list(rows[0]))
    assert main([str(renamed), "--claims", str(path)]) == 1
    assert "seed 4 claimed, but the log begins with 3" in capsys.readouterr().out


def test_what_other_tasks_of_a_log_reveal_is_counted(tmp_path, capsys):
    log = tmp_path / DIGITS / "random" / "0.jsonl"
    ledger = Ledger(None, log)
    other = QuantizeNetEnv(task="synthetic-4-0", ledger=ledger)
    play(other, 3, seed=0)
    env = QuantizeNetEnv(task=DIGITS, ledger=ledger)
    play(env, 3, seed=0)
    revealed = [one for one in read_revealed(log, env.problem) if one.number > 3]
    rows = list(score(Job(DIGITS, "random", 0), revealed, env.problem, (10,)))
    path = tmp_path / "rows.csv"
    append_rows(path, rows, list(rows[0]))
    assert main([str(log), "--claims", str(path)]) == 1
    assert "the log reveals accuracies of synthetic-4-0, too" in capsys.readouterr().out


def test_rows_without_a_log_are_named(tmp_path, capsys):
    task, path, hashes = "synthetic-4-0", tmp_path / "rows.csv", tmp_path / "logs.sha256"
    log = tmp_path / task / "random" / "3.jsonl"
    rows = run_job(Job(task, "random", 3), (10,), log)
    hashes.write_text(f"{content_sha256(log.read_bytes())}  {task}/random/3.jsonl\n")
    known = known_rows(task)
    append_rows(path, [*rows, *known], list(rows[0]))
    words = [str(log), "--claims", str(path), "--sha256", str(hashes)]
    assert main(words) == 0
    assert f"{len(known)} need none: agrees." in capsys.readouterr().out
    append_rows(path, [{**rows[0], "seed": 9}], list(rows[0]))
    assert main(words) == 2
    told = "1 are of runs whose log is not here, nor its hash: synthetic-4-0 random 9."
    assert told in capsys.readouterr().out
    assert main(words[:3]) == 0  # nobody has said that all are here
    path.unlink()
    append_rows(path, [*rows, {**known[0], "cost": 0.0}], list(rows[0]))
    assert main(words) == 1
    assert "need none: differs.\n  rows.csv, line 3: cost 0.0 claimed" in capsys.readouterr().out
    for change, told in {
        ("searcher", "search_oracle"): f"line 3: {task} has no search_oracle.",
        ("budget", 0): "line 3: optimum knows all 2401 assignments",
        ("task", "mine"): "Unknown task 'mine'",
        ("cost", "?"): "could not convert string to float",
    }.items():
        path.unlink()
        append_rows(path, [*rows, {**known[-1], change[0]: change[1]}], list(rows[0]))
        assert main(words) == 2
        out = capsys.readouterr().out
        assert "1 need none: cannot be checked." in out and told in out


def test_a_column_that_is_empty_throughout_claims_nothing(searched, tmp_path, capsys):
    folder, rows = searched
    (folder / "result.json").unlink()
    path = tmp_path / "rows.csv"
    append_rows(path, [{**row, "cost": ""} for row in rows], [*rows[0], "cost"])
    assert main([str(folder), "--claims", str(path)]) == 0
    append_rows(path, [{**rows[0], "searcher": "greedy", "cost": 0.5}], [*rows[0], "cost"])
    assert main([str(folder), "--claims", str(path)]) == 1
    assert "cost is empty" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"groups": [[0, 1], [2], [3]]},
        {"bitwidths": [2, 8]},
        {"groups": [[0], [1], [2], [9]]},
        {"start": []},
    ],
)
def test_a_damaged_description_spoils_no_other_log(searched, tmp_path, capsys, change):
    folder, rows = searched
    (folder / "result.json").unlink()
    other = folder.with_name("1") / "log.jsonl"
    other.parent.mkdir()
    first, *lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    told = json.loads(first)
    told["task"].update(change)
    other.write_text("".join([json.dumps(told) + "\n", *lines]))
    path = tmp_path / "rows.csv"
    append_rows(path, [*rows, *({**row, "seed": 1} for row in rows)], list(rows[0]))
    assert main([str(other), str(folder), "--claims", str(path), "--workers", "1"]) > 0
    assert f"{folder / 'log.jsonl'}: agrees" in capsys.readouterr().out


def test_what_nobody_foresaw_is_a_verdict(tmp_path, honest, monkeypatch, capsys):
    def break_on(lines, folders):
        if len(lines) < len(honest):
            raise RuntimeError("unforeseen")
        return replay(lines, folders)

    monkeypatch.setattr("benchmarks.validate.verdict.replay", break_on)
    write(tmp_path / "a.jsonl", honest[:-1])
    write(tmp_path / "b.jsonl", honest)
    assert main([str(tmp_path), "--workers", "1"]) == 2
    out = capsys.readouterr().out
    assert "It cannot be checked: RuntimeError('unforeseen')" in out
    assert "2 logs: 1 agrees, 0 differs, 1 cannot be checked." in out


def test_a_budget_of_nothing_is_no_claim(searched, tmp_path, capsys):
    folder, rows = searched
    path = tmp_path / "rows.csv"
    append_rows(path, [{**rows[0], "budget": 0}], list(rows[0]))
    assert main([str(folder), "--claims", str(path)]) == 2
    assert "a budget is 1 or more" in capsys.readouterr().err


def test_rows_of_a_search_that_saw_means_are_refused(tmp_path, capsys):
    log = tmp_path / DIGITS / "random" / "0.jsonl"
    env = QuantizeNetEnv(task=DIGITS, noise="mean", ledger=Ledger(10, log))
    env.reset(seed=0)
    SEARCHERS["random"](env, np.random.default_rng(0))
    env.close()
    job = Job(DIGITS, "random", 0)
    rows = list(score(job, read_revealed(log, env.problem), env.problem, (10,)))
    path = tmp_path / "rows.csv"
    append_rows(path, rows, list(rows[0]))
    assert main([str(log), "--claims", str(path)]) == 1
    assert "the log asks for the means of all (noise='mean')" in capsys.readouterr().out


def test_many_logs_are_shared_among_workers_and_the_worst_counts(tmp_path, honest, capsys):
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", honest)
    assert main([str(tmp_path), "--workers", "2"]) == 0
    write(tmp_path / "c.jsonl", honest)
    (tmp_path / "b.jsonl").write_text("none\n")
    assert main([str(tmp_path), "--workers", "1"]) == 2
    write(tmp_path / "a.jsonl", honest[:4] + honest[7:])
    assert main([str(tmp_path), "--workers", "1", "--show", "0"]) == 1
    out = capsys.readouterr().out
    assert "3 logs: 1 agrees, 1 differs, 1 cannot be checked." in out
    assert "more differences" in out
    assert re.search(r"answer \d \d \d \d \(known by \d of 10 repeats\), objective", out)
    assert main([str(tmp_path / "nothing")]) == 2
    assert "nothing does not exist." in capsys.readouterr().err


# Twins


@pytest.mark.parametrize("searcher", ["local_search", "random"])
def test_a_searcher_with_one_seed_writes_one_log(tmp_path, searcher):
    texts = []
    for name, seed in (("one", 0), ("twin", 0), ("other", 1)):
        log = tmp_path / f"{name}.jsonl"
        env = QuantizeNetEnv(task=DIGITS, ledger=Ledger(30, log))
        env.reset(seed=seed)
        SEARCHERS[searcher](env, np.random.default_rng(seed))
        confirm(env)
        env.close()
        texts.append(log.read_text())
    assert texts[0] == texts[1] != texts[2]


def test_a_log_is_drawn(tmp_path, capsys):
    log, picture = tmp_path / "mine.jsonl", tmp_path / "pictures" / "curve.png"
    single(log)
    assert main([str(log), "--picture", str(picture)]) == 0
    assert f"Learning curve: {picture}" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    single(tmp_path / "other.jsonl")
    assert main([str(tmp_path), "--picture", str(picture)]) == 2
    assert "--picture is of one log, but there are 2" in capsys.readouterr().err
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text(log.read_text().replace(DIGITS, "nothing-of-the-kind"))
    assert main([str(unknown), "--picture", str(tmp_path / "no.png")]) == 2
    assert "cannot be drawn" in capsys.readouterr().err and not (tmp_path / "no.png").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--claims", "nope.csv"], "--claims nope.csv: there is no such file"),
        (["--tasks", "nope"], "--tasks nope: there is no such folder"),
        (["--picture", "curve.txt"], "--picture curve.txt has to end in .png"),
    ],
)
def test_options_that_name_nothing_are_refused(options, sentence, tmp_path, capsys):
    single(tmp_path / "log.jsonl", episodes=2)
    assert main([str(tmp_path / "log.jsonl"), *options]) == 2
    assert sentence in capsys.readouterr().err
