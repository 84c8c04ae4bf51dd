import json

import gymnasium as gym
import numpy as np
import pytest
from toys import ToyEvaluator, toy_problem

from releq_gym.costs import make_cost
from releq_gym.tasks.score import make_scorer

LAYERS = ToyEvaluator.layers
ROWS = [
    {"layer": layer.name, "bitwidth": bitwidth, "value": bitwidth * (1 + place), "spread": 0.1}
    for place, layer in enumerate(LAYERS)
    for bitwidth in (2, 4, 8)
]


def as_csv(path, rows=ROWS):
    lines = ["layer, bitwidth, value"]
    lines += [f"{row['layer']}, {row['bitwidth']}, {row['value']}" for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "list", "object"])
def test_csv_and_json_say_the_same(tmp_path, kind):
    if kind == "csv":
        path, figure = as_csv(tmp_path / "table.csv"), "value"
    else:
        path, figure = tmp_path / "table.json", "value" if kind == "list" else "milliseconds"
        content = ROWS if kind == "list" else {"figure": "milliseconds", "rows": ROWS}
        path.write_text(json.dumps(content))
    found = make_cost("lookup", path=str(path))(LAYERS, [2, 3, 8])
    assert list(found) == [figure]
    assert np.array_equal(found[figure], [[2, np.nan, 8], [4, np.nan, 16], [6, np.nan, 24]], True)
    if kind != "object":  # which says itself what it holds
        named = make_cost("lookup", path=path, figure="millijoules")
        assert list(named(LAYERS, [2])) == ["millijoules"]


def test_a_table_may_hold_several_figures(tmp_path):
    path = as_csv(tmp_path / "table.csv")
    path.write_text(path.read_text().replace("value", "joules", 1))
    found = make_cost("lookup", path=path, figure="joules")(LAYERS, [8])
    assert found["joules"].tolist() == [[8], [16], [24]]
    stated = tmp_path / "stated.json"
    rows = [{"layer": layer.name, "bitwidth": 8, "value": 1.0} for layer in LAYERS]
    stated.write_text(json.dumps({"figure": "milliseconds", "rows": rows}))
    assert list(make_cost("lookup", path=stated)(LAYERS, [8])) == ["milliseconds"]
    with pytest.raises(ValueError, match=r"figure of .* 'joules'\. Known: milliseconds"):
        make_cost("lookup", path=stated, figure="joules")(LAYERS, [8])
    with pytest.raises(ValueError, match=r"figure of .* 'seconds'\. Known: joules"):
        make_cost("lookup", path=path, figure="seconds")(LAYERS, [8])


@pytest.mark.parametrize("options", [{"path": 5}, {"path": "x", "figure": ["a"]}])
def test_what_names_nothing_is_refused(options):
    with pytest.raises(ValueError, match="has to"):
        make_cost("lookup", **options)


def test_decimal_commas_are_not_taken_for_whole_numbers(tmp_path):
    path = as_csv(tmp_path / "table.csv")
    path.write_text(path.read_text().replace("2, 2\n", "2, 2,5\n", 1))
    with pytest.raises(ValueError, match="has more fields than the first line names"):
        make_cost("lookup", path=path)(LAYERS, [2])


def test_an_environment_with_a_table(tmp_path):
    path = as_csv(tmp_path / "table.csv")
    env = gym.make(
        "releq/QuantizeNet-v0",
        evaluator=ToyEvaluator(),
        cost="lookup",
        cost_kwargs={"path": str(path), "figure": "milliseconds"},
        cost_budget={"milliseconds": 20.0},
    )
    env.reset(seed=0)
    for action in (2, 2, 2):
        *_, info = env.step(action)
    assert info["milliseconds"] <= 20 and info["bitwidths"] != (8, 8, 8)


def test_gaps_are_errors_unless_interpolated_and_nothing_is_extrapolated(tmp_path):
    rows = [row for row in ROWS if (row["layer"], row["bitwidth"]) != ("middle", 4)]
    path = as_csv(tmp_path / "table.csv", rows)
    with pytest.raises(ValueError, match=r"layer 'middle' at 4 bits it is nan.*bitwidths=.2, 8.,"):
        toy_problem(cost_model=make_cost("lookup", path=path))
    without = as_csv(tmp_path / "no8.csv", [row for row in ROWS if row["bitwidth"] != 8])
    with pytest.raises(ValueError, match="8 bits are always needed"):
        toy_problem(cost_model=make_cost("lookup", path=without))
    found = make_cost("lookup", path=path, interpolate=True)(LAYERS, [1, 2, 4, 5, 8])["value"]
    assert np.array_equal(found[1], [np.nan, 4, 8, 10, 16], True)
    assert toy_problem(cost_model=make_cost("lookup", path=path, interpolate=True)).cost(
        (8, 4, 8)
    ) == pytest.approx((8 + 8 + 24) / 48)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("layer,bitwidth,value\n", "has no rows"),
        ("layer,bits,value\nfirst,2,1\n", "row 1, lacks one of layer, bitwidth, value"),
        ("layer,bitwidth,value\nfirst,2.5,1\n", "row 1: bitwidth='2.5'"),
        ("layer;bitwidth;value\nfirst;2;1\n", "Separate the columns by commas"),
        ("layer,bitwidth,value\nfirst,2,-1\n", "value='-1'"),
        ("layer,bitwidth,value\nfirst,2,fast\n", "value='fast'"),
        ("layer,bitwidth,value\nfirst,2\n", "value=None"),
        ("layer,bitwidth,value\nfirst,2,1\nfirst,2,1\n", "row 2: first at 2 bits is there twice"),
        ("layer,bitwidth,value\nfirst,8,1\n", "no row for 'middle', 'last'; it knows 'first'"),
    ],
)
def test_a_wrong_table_gets_a_sentence(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        make_cost("lookup", path=path)(LAYERS, [8])


def test_regret_is_known_where_the_table_has_what_may_be_chosen(tmp_path):
    path = tmp_path / "table.csv"
    lines = [f"{name},{b},{b}" for name in ("conv1", "conv2", "fc1", "fc2") for b in (2, 4, 8)]
    path.write_text("layer,bitwidth,value\n" + "\n".join(lines))
    options = {"cost": "lookup", "cost_kwargs": {"path": str(path)}, "bitwidths": [2, 4, 8]}
    scorer = make_scorer(
        gym.make("releq/QuantizeNet-v0", net="digits", **options).unwrapped.problem
    )
    assert set(scorer.oracle) <= {2, 4, 8} and scorer.search_regret(scorer.oracle) == 0
    assert scorer.regret(scorer.optimum) == 0 < scorer.regret((8, 8, 8, 8))


def test_whether_to_interpolate_is_said_by_a_bool(tmp_path):
    path = as_csv(tmp_path / "table.csv")
    with pytest.raises(ValueError, match="interpolate='no' has to be True or False"):
        make_cost("lookup", path=path, interpolate="no")


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("layer,bitwidth,milliseconds\nfirst,8,1\n")
    with pytest.raises(ValueError, match=r"figure of .*table.csv 'joules'.*milliseconds"):
        make_cost("lookup", path=path, figure="joules")(LAYERS, [8])
    path.write_text("layer,bitwidth,value,milliseconds\nfirst,8,1,2\n")
    with pytest.raises(ValueError, match="Did you mean 'milliseconds'"):
        make_cost("lookup", path=path, figure="milisecond")(LAYERS, [8])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("layer,bitwidth,ms\nfirst,8,1,5\n", "row 1, has more fields than the first line names"),
        ("layer;bitwidth;ms\nfirst;8;1\n", "row 1, lacks one .* Separate the columns by commas"),
        ("", "has no rows; it needs layer, bitwidth, ms"),
    ],
)
def test_a_figure_asked_for_does_not_hide_what_is_wrong_with_the_file(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        make_cost("lookup", path=path, figure="ms")(LAYERS, [8])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.csv", None, "cannot be read"),
        ("table.json", "{", "is no JSON"),
        ("table.json", "3", "holds neither a list of rows nor an object"),
        ("table.json", '{"rows": null}', "whose 'rows', and 'layers' if there, are lists"),
        ("table.json", '{"rows": [], "layers": 5}', "are lists"),
        ("table.json", f'[{{"layer": "a", "bitwidth": {10**400}, "value": 1}}]', "a whole number"),
        ("table.csv", f"layer,bitwidth,value\n{'x' * 200_000},8,1", "is no CSV"),
        ("table.json", "[3]", "row 1, lacks one of"),
        ("table.json", '[{"layer": "first", "bitwidth": 2.5, "value": 1}]', "bitwidth=2.5"),
    ],
)
def test_a_file_that_is_no_table_gets_a_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        make_cost("lookup", path=path)(LAYERS, [8])
