import itertools

import gymnasium as gym
import numpy as np
import pytest
from toys import toy_layer

import releq_gym
from releq_gym.cli import main
from releq_gym.report import final_report
from releq_gym.searchers import SEARCHERS
from releq_gym.tasks import TaskError, load_task
from releq_gym.tasks.importer import import_task
from releq_gym.tasks.landscape import landscape
from releq_gym.tasks.score import make_scorer
from releq_gym.tasks.show import describe
from releq_gym.tasks.verify import verify_cells

LAYERS = [toy_layer("first", 10, 100), toy_layer("last", 30, 50)]
GRID = list(itertools.product((2, 4, 8), repeat=2))
SOME = [(8, 8), (8, 4), (4, 8), (2, 2)]


def accuracy(assignment):
    return 0.9 - 0.02 * sum(8 - bitwidth for bitwidth in assignment) / 8


def write(path, assignments, accuracies=None):
    rows = [" ".join(map(str, each)) for each in assignments]
    values = accuracies or [accuracy(each) for each in assignments]
    lines = [f"{value},{row},remark" for row, value in zip(rows, values, strict=True)]
    path.write_text("\n".join(["accuracy,bitwidths,note", *lines]) + "\n")
    return path


def imported(folder, assignments, **options):
    file = write(folder / "mine.csv", assignments)
    defaults = {"net": "mine", "layers": LAYERS, "full_precision_accuracy": 0.9, "images": 1000}
    return import_task(file, folder, **{**defaults, **options})


def make(task, **options):
    return gym.make("releq/QuantizeNet-v0", task=str(task.folder), **options)


def play(env, actions):
    env.reset(seed=0)
    for action in actions:
        *_, info = env.step(action)
    return info


def test_a_complete_file_becomes_a_table_in_order(tmp_path):
    task = imported(tmp_path, GRID[::-1])
    assert task.exhaustive and task.splits == ("search",)
    evaluator = make(task).unwrapped.problem.evaluator
    for assignment in GRID:
        assert evaluator.evaluate(assignment, 0).accuracy == pytest.approx(accuracy(assignment))
    assert evaluator.images == 1000


def test_several_rows_of_one_assignment_are_repeats(tmp_path):
    file = write(tmp_path / "twice.csv", GRID * 2, [0.5] * 9 + [0.7] * 9)
    task = import_task(file, tmp_path, net="mine", layers=LAYERS, full_precision_accuracy=0.9)
    evaluator = make(task).unwrapped.problem.evaluator
    assert evaluator.repeats == 2
    assert [evaluator.evaluate((2, 4), k).accuracy for k in (0, 1)] == [0.5, 0.7]
    assert evaluator.evaluate((2, 4), -1).accuracy == pytest.approx(0.6)
    assert evaluator.images == 0  # nobody said how many, so that they count as exact


def test_decimal_commas_are_not_taken_for_zero(tmp_path):
    (tmp_path / "comma.csv").write_text("bitwidths,accuracy\n8 8,0,9931\n")
    with pytest.raises(TaskError, match="line 2 has more fields than the first line names"):
        import_task(
            tmp_path / "comma.csv", tmp_path, net="mine", layers=LAYERS, full_precision_accuracy=0.9
        )


@pytest.mark.parametrize("points", [-1, float("nan"), float("inf")])
def test_a_loss_that_cannot_be_tolerated_is_refused(tmp_path, points):
    with pytest.raises(ValueError, match="has to be 0 or more points"):
        imported(tmp_path, GRID, max_loss_points=points)


def test_it_is_shown_as_given_and_cannot_be_measured_again(tmp_path):
    task = imported(tmp_path, GRID, images=None)
    assert "  search      as given, full precision 90.00 %" in describe(task)
    assert "1,000 images, full" in describe(imported(tmp_path, GRID, version="2.0.0"))
    with pytest.raises(TaskError, match="was imported: how"):
        verify_cells(task, 4)


def test_what_leads_to_nothing_measured_is_masked(tmp_path):
    env = make(imported(tmp_path, SOME))
    env.reset(seed=0)
    masks = env.get_wrapper_attr("action_masks")
    assert masks().tolist() == [True, True, True]
    env.step(1)
    assert masks().tolist() == [False, False, True]
    *_, info = env.step(0)
    assert info["bitwidths"] == (4, 8) and info["accuracy"] == pytest.approx(accuracy((4, 8)))
    # Two bits first leave only two bits.
    assert play(env, [0, 2])["bitwidths"] == (2, 2)


def test_a_masked_choice_can_be_refused(tmp_path):
    env = make(imported(tmp_path, SOME), on_masked="raise")
    env.reset(seed=0)
    env.step(1)
    with pytest.raises(ValueError, match="or were not measured; what is left there: 8 bits"):
        env.step(0)


def test_copies_mask_as_one_does(tmp_path):
    task = imported(tmp_path, SOME)
    copies = gym.make_vec(
        "releq/QuantizeNet-v0",
        num_envs=9,
        vectorization_mode="vector_entry_point",
        task=str(task.folder),
        autoreset_mode="Disabled",
    )
    copies.reset(seed=0)
    env, pairs = make(task), np.array(list(itertools.product(range(3), repeat=2)))
    copies.step(pairs[:, 0])
    *_, info = copies.step(pairs[:, 1])
    alone = [play(env, pair.tolist())["bitwidths"] for pair in pairs]
    assert list(map(tuple, info["bitwidths"].tolist())) == alone
    assert set(alone) <= set(SOME)


def test_searchers_find_the_best_of_what_there_is(tmp_path):
    task = imported(tmp_path, SOME, max_loss_points=1.2)
    for name in SEARCHERS.names():
        env = make(task)
        SEARCHERS[name](env, np.random.default_rng(0))
        ledger, problem = env.unwrapped.ledger, env.unwrapped.problem
        assert set(ledger.cells(problem)) <= set(SOME)
        best = ledger.best(problem)
        assert best is None or best.bitwidths in SOME


def test_missing_assignments_can_be_refused_instead(tmp_path):
    env = make(imported(tmp_path, SOME, unmeasured="refuse"))
    assert play(env, [1, 2])["bitwidths"] == (4, 8)
    with pytest.raises(ValueError, match=r"2 4 was not measured in .*4 of 9 assignments"):
        play(env, [0, 1])


def test_restrictions_that_leave_nothing_measured_are_a_sentence(tmp_path):
    task = imported(tmp_path, SOME)
    assert play(make(task, fixed_bitwidths={"first": 8}), [0])["bitwidths"] == (8, 4)
    with pytest.raises(ValueError, match="has measured nothing that"):
        make(task, fixed_bitwidths={"first": 2}, bitwidths=(4, 8))
    with pytest.raises(ValueError, match="use evaluate='final'"):
        make(task, evaluate="every_step")


def test_a_cost_budget_holds_beside_the_masks(tmp_path):
    env = make(imported(tmp_path, SOME), cost_budget={"cost": 0.9})
    for pair in itertools.product(range(3), repeat=2):
        info = play(env, pair)
        assert info["bitwidths"] in SOME and info["cost"] <= 0.9


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bits,accuracy\n8 8,0.5\n", "no column 'bitwidths' in its first line"),
        ("bitwidths,accuracy\n", "no rows below"),
        ("bitwidths,accuracy\n8 8 8,0.5\n", "line 2: bitwidths '8 8 8' have to be 2 whole numbers"),
        ("bitwidths,accuracy\n8 9,0.5\n", "from 1 to 8"),
        ("bitwidths,accuracy\n8 8,0.5\n8 4,50\n", "line 3: accuracy '50' has to be a fraction"),
        ("bitwidths,accuracy\n8 8,nan\n", "accuracy 'nan' has to be"),
        (
            "bitwidths,accuracy\n8 8,0.5\n8 8,0.5\n8 4,0.5\n",
            "1 times and others 2 times, 8 8 for one",
        ),
    ],
)
def test_a_file_that_cannot_be_understood_is_a_sentence(tmp_path, text, sentence):
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(TaskError, match=sentence):
        import_task(file, tmp_path, net="mine", layers=LAYERS, full_precision_accuracy=0.9)
    assert not list(tmp_path.glob("*/*/card.json"))


@pytest.mark.filterwarnings("ignore:The best assignment")
def test_a_task_that_cannot_be_read_back_is_not_written(tmp_path):
    for options in ({"bitwidths": (2, 4, 8, 9)}, {"full_precision_accuracy": 1e-9}):
        with pytest.raises(TaskError, match="malformed"):
            imported(tmp_path, GRID, **options)
        assert not list(tmp_path.glob("mine-imported/**/*"))
    assert imported(tmp_path, GRID).exhaustive


@pytest.mark.parametrize("name", ["random", "greedy", "local_search", "integer_program"])
def test_on_a_ledger_with_another_network_everything_is_searched(tmp_path, name):
    ledger = releq_gym.Ledger()
    other = gym.make("releq/QuantizeNet-v0", net="digits", ledger=ledger)
    SEARCHERS["local_search"](other, np.random.default_rng(0))
    assert ledger.distinct > len(GRID)
    env = make(imported(tmp_path, [*SOME, (2, 4), (4, 2)]), ledger=ledger)
    SEARCHERS[name](env, np.random.default_rng(0))
    alone = make(load_task(tmp_path / "mine-imported" / "1.0.0"))
    SEARCHERS[name](alone, np.random.default_rng(0))
    found = len(ledger.cells(env.unwrapped.problem))
    assert found == alone.unwrapped.ledger.distinct > 1


def test_arguments_that_do_not_fit_are_a_sentence(tmp_path):
    for option, sentence in (
        ({"full_precision_accuracy": 92.0}, "92 % is 0.92"),
        ({"images": 0}, "at least 1"),
        ({"bitwidths": (4, 8)}, "allows only 4, 8"),
        ({"unmeasured": "invent"}, "Unknown unmeasured 'invent'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            imported(tmp_path, GRID, **option)


def test_full_precision_far_below_the_table_is_warned_of(tmp_path):
    with pytest.warns(UserWarning, match=r"full precision of 0\.5, so that there is no loss"):
        imported(tmp_path, GRID, full_precision_accuracy=0.5)


def test_the_command_line_imports(tmp_path, capsys):
    layers = releq_gym.network_layers("digits")
    write(tmp_path / "mine.csv", [(8,) * len(layers), (4,) * len(layers)])
    options = f"--net digits --full-precision 0.9 --images 450 --output {tmp_path}"
    assert main(["task", "import", str(tmp_path / "mine.csv"), *options.split()]) == 0
    assert "measured: 2 on search" in capsys.readouterr().out
    task = load_task(tmp_path / "digits-imported" / "1.0.0")
    assert task.card["completeness"] == "partial"
    assert main(["task", "verify", str(tmp_path / "digits-imported")]) == 0  # its files alone
    assert main(["task", "verify", str(tmp_path / "digits-imported"), "--cells", "4"]) == 2
    assert "was imported" in capsys.readouterr().err
    # Of the shipped weights, not of untrained ones.
    shipped = gym.make("releq/QuantizeNet-v0", net="digits").unwrapped.problem.layers
    assert [one.weight_std for one in task.layers] == [one.weight_std for one in shipped]


def test_a_task_is_named_as_its_folder(tmp_path):
    assert imported(tmp_path, GRID, net="my.module:factory").folder.parts[-2:] == (
        "my.module_factory-imported",
        "1.0.0",
    )
    task = imported(tmp_path, GRID, name="mine-short")
    assert task.folder == tmp_path / "mine-short" / "1.0.0" and task.name == "mine-short/1.0.0"
    for name in ("", "..", "a/b", "a:b"):
        with pytest.raises(ValueError, match="name is that of its folder"):
            imported(tmp_path, GRID, name=name)


@pytest.mark.parametrize("assignments", [GRID, SOME])
def test_an_imported_task_has_no_report_and_says_so(tmp_path, assignments):
    evaluator = make(imported(tmp_path, assignments)).unwrapped.problem.evaluator
    assert final_report(evaluator, (8, 8), tmp_path) is None


def test_of_an_imported_task_search_regret_alone_is_known(tmp_path):
    task = imported(tmp_path, GRID)
    scorer = make_scorer(make(task, reward_kwargs={"max_loss_points": 90}).unwrapped.problem)
    assert scorer.oracle == min(GRID, key=sum) and not scorer.has_report
    assert scorer.search_regret(scorer.oracle) == 0 < scorer.search_regret(max(GRID, key=sum))
    for asked in (lambda: scorer.optimum, lambda: scorer.regret((8, 8)), lambda: landscape(task)):
        with pytest.raises(ValueError, match="has no report split, so that search_regret alone"):
            asked()


def test_accuracies_that_so_many_images_cannot_give_are_refused(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("bitwidths, accuracy\n2 2, 0.5\n2 8, 0.9527\n")
    layers = [toy_layer("first", 10, 100), toy_layer("last", 30, 50)]
    options = {"net": "mine", "layers": layers, "full_precision_accuracy": 0.96}
    with pytest.raises(ValueError, match=r"csv, 2 8: accuracy 0\.9527 cannot come from images=450"):
        import_task(file, tmp_path / "tasks", images=450, **options)
    assert import_task(file, tmp_path / "tasks", images=10_000, **options)


@pytest.mark.parametrize("typed", [repr(1 - 0.07), repr(float(np.float32(0.93))), "0.93", "1e-02"])
def test_accuracies_are_taken_with_their_rounding(tmp_path, typed):
    file = tmp_path / "mine.csv"
    file.write_text(f"bitwidths, accuracy\n2 2, {typed}\n")
    layers = [toy_layer("first", 10, 100), toy_layer("last", 30, 50)]
    options = {"net": "mine", "layers": layers, "full_precision_accuracy": 0.96, "images": 100}
    assert import_task(file, tmp_path / "tasks", **options)
    file.write_text("bitwidths, accuracy\n2 2, 1.4e-03\n")
    with pytest.raises(ValueError, match="cannot come from images=100"):
        import_task(file, tmp_path / "others", **options)
