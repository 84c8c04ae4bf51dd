import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from releq_gym.cli import main
from releq_gym.hardware import tvm_timing
from releq_gym.hardware.geometry import exact_answer, geometry_of
from releq_gym.hardware.tvm_operator import compile_layer, is_bitserial, require_tvm
from releq_gym.hardware.tvm_timing import Timing, measure_layer, measure_net
from releq_gym.layers import Layer
from releq_gym.networks import network_layers


def layer(kind, weight_shape, positions, stride=1, groups=1, name="one", inputs=None):
    macs = int(np.prod(weight_shape)) * (inputs or positions)
    return Layer(name, kind, weight_shape, stride, positions, macs, 1.0, (1.0,) * 8, groups)


BITSERIAL = {
    "odd channels": layer("conv", (18, 33, 3, 3), 20),
    "stride": layer("conv", (5, 40, 3, 3), 16, stride=4),
    "even kernel": layer("conv", (5, 6, 2, 2), 9),
    "strided 1x1": layer("conv", (17, 70, 1, 1), 4, stride=4),
    "image": layer("conv", (7, 3, 5, 5), 25),
    "strided image": layer("conv", (7, 3, 3, 3), 16, stride=4),
    "image by patches": layer("conv", (6, 1, 2, 2), 9, stride=4),
    "one dimension": layer("conv", (5, 6, 4), 11, stride=2),
    "dense": layer("linear", (10, 84), 1),
    "dense on a sequence": layer("linear", (33, 64), 7),
}

INTEGER = {
    "int8 depthwise_conv2d_nchw": layer("depthwise", (12, 1, 3, 3), 16, stride=4, groups=6),
    "int8 group_conv2d_nchw": layer("conv", (8, 4, 3, 3), 25, groups=2),
    "int8 conv2d_transpose_nchw": layer("transposed", (6, 5, 3, 3), 64, stride=4, inputs=16),
    "int8 group_conv2d_transpose_nchw": layer(
        "transposed", (6, 5, 1, 1), 36, stride=4, groups=2, inputs=9
    ),
}


def by_definition(geometry, x, w):
    """Sums every product where it belongs, one position after the other."""
    g, (top, left, _, _) = geometry, geometry.padding
    given = np.zeros((g.out_channels, *g.given), np.int64)
    per_group = g.out_channels // g.channel_groups
    w = w.reshape(g.channel_groups, -1, *w.shape[1:]).astype(np.int64)
    x = x.reshape(g.channel_groups, -1, *g.taken).astype(np.int64)
    if g.kind != "transposed":
        w = w.swapaxes(1, 2)
    put_at = g.taken if g.kind == "transposed" else g.given
    for row, column in itertools.product(*map(range, put_at)):
        for i, j in itertools.product(*map(range, g.kernel)):
            reached = row * g.stride[0] + i - top, column * g.stride[1] + j - left
            there, here = (reached, (row, column))
            if g.kind == "transposed":
                there, here = here, there
            inside = all(0 <= p < n for p, n in zip(there, g.taken, strict=True))
            if inside and all(0 <= p < n for p, n in zip(here, g.given, strict=True)):
                for group in range(g.channel_groups):
                    outputs = slice(group * per_group, (group + 1) * per_group)
                    given[outputs, *here] += x[group, :, *there] @ w[group, :, :, i, j]
    return given


def codes(geometry, bitwidth):
    random = np.random.default_rng(bitwidth)
    half = 2 ** (bitwidth - 1)
    return (
        random.integers(0, 256, geometry.input_shape, dtype=np.uint8),
        random.integers(-half, half, geometry.weight_shape, dtype=np.int8),
    )


@pytest.mark.parametrize("case", [*BITSERIAL.values(), *INTEGER.values()])
def test_the_geometry_has_the_positions_and_products_of_the_layer(case):
    geometry = geometry_of(case)
    assert np.prod(geometry.given) == case.output_positions
    assert np.prod(geometry.weight_shape) == case.weights
    met = geometry.taken if geometry.kind == "transposed" else geometry.given
    assert np.prod(met) * case.weights == case.macs
    x, w = codes(geometry, 8)
    answer = exact_answer(geometry, x, w)
    assert np.array_equal(answer, by_definition(geometry, x, w))


def test_positions_make_the_squarest_grid_and_padding_is_shared():
    geometry = geometry_of(layer("conv", (5, 40, 3, 3), 16, stride=4))
    assert (geometry.taken, geometry.given, geometry.stride) == ((8, 8), (4, 4), (2, 2))
    assert geometry.padding == (0, 0, 1, 1)
    assert geometry_of(layer("conv", (5, 40, 3, 3), 2 * 64)).given == (8, 16)


@pytest.mark.parametrize(
    ("taken", "kernel", "options"),
    [
        ((4, 4), 3, {}),  # to 9 x 9, which is not twice 5
        ((4, 4), 3, {"padding": 1}),  # to 7 x 7
        ((4, 4), 4, {"padding": 1}),
        ((3, 7), 2, {}),  # to 6 x 14, whose squarest grid is another
        ((5, 5), 1, {"output_padding": 1}),
    ],
)
def test_transposed_convolutions_have_the_sizes_they_had(taken, kernel, options):
    conv = torch.nn.ConvTranspose2d(6, 5, kernel, stride=2, **options)
    (profiled,) = network_layers(conv, (6, *taken), "uniform")
    geometry = geometry_of(profiled)
    assert geometry.taken == taken
    assert geometry.given == tuple(conv(torch.zeros(1, 6, *taken)).shape[2:])


def test_three_dimensions_get_a_sentence():
    with pytest.raises(ValueError, match=r"'one' has a kernel of 3 dimensions, 3x3x3"):
        geometry_of(layer("conv", (5, 4, 3, 3, 3), 8))


@pytest.mark.parametrize("bitwidth", [1, 3, 8])
@pytest.mark.parametrize("case", BITSERIAL.values(), ids=BITSERIAL)
def test_bitserial_operators_are_exact(case, bitwidth):
    pytest.importorskip("tvm")
    geometry = geometry_of(case)
    x, w = codes(geometry, bitwidth)
    operator = compile_layer(geometry, bitwidth)
    assert operator.name.startswith("bitserial_")
    answer = operator.answer(operator.arguments(x, w))
    assert answer.dtype == np.int32
    assert np.array_equal(answer, exact_answer(geometry, x, w))


@pytest.mark.parametrize("bitwidth", range(1, 9))
def test_extreme_codes_do_not_overflow(bitwidth):
    pytest.importorskip("tvm")
    geometry = geometry_of(layer("linear", (3, 100), 1))
    x = np.full(geometry.input_shape, 255, np.uint8)
    w = np.full(geometry.weight_shape, -(2 ** (bitwidth - 1)), np.int8)
    operator = compile_layer(geometry, bitwidth)
    answer = operator.answer(operator.arguments(x, w))
    assert answer.ravel().tolist() == [-100 * 255 * 2 ** (bitwidth - 1)] * 3


@pytest.mark.parametrize(("name", "case"), INTEGER.items())
def test_what_is_not_bitserial_falls_to_a_named_8_bit_operator(name, case):
    pytest.importorskip("tvm")
    geometry = geometry_of(case)
    assert not is_bitserial(geometry)
    x, w = codes(geometry, 8)
    operator = compile_layer(geometry)
    assert np.array_equal(operator.answer(operator.arguments(x, w)), exact_answer(geometry, x, w))
    one, other = measure_layer(case, (1, 8), rounds=1)
    assert (one.operator, one.value) == (name, other.value)


def test_more_weight_bits_take_more_time():
    pytest.importorskip("tvm")
    timings = measure_layer(layer("conv", (64, 64, 3, 3), 64), (1, 2, 8), rounds=5)
    one, two, eight = (timing.value for timing in timings)
    assert 0 < one < two < eight
    assert all(timing.operator == "bitserial_conv2d" for timing in timings)


def test_a_wrong_operator_is_not_timed(monkeypatch):
    pytest.importorskip("tvm")
    monkeypatch.setattr(tvm_timing, "exact_answer", lambda *_: np.zeros(3))
    with pytest.raises(RuntimeError, match="bitserial_dense at 2 bits computes something else"):
        measure_layer(layer("linear", (4, 8), 1), (2,), rounds=1)


def test_bitwidths_that_no_operator_has_get_a_sentence():
    for bitwidth, case in ((0, "dense"), (9, "dense"), (4, "int8 group_conv2d_nchw")):
        geometry = geometry_of({**BITSERIAL, **INTEGER}[case])
        with pytest.raises(ValueError, match=f"bitwidth={bitwidth} has to be 1 to 8, and 8 for"):
            compile_layer(geometry, bitwidth)
    with pytest.raises(ValueError, match=r"bitwidths=\[9\] have to be whole numbers from 1 to 8"):
        measure_layer(BITSERIAL["dense"], (9,))
    with pytest.raises(ValueError, match=r"bitwidths=\[2, 2\] name one of them twice"):
        measure_layer(BITSERIAL["dense"], (2, 2))
    with pytest.raises(ValueError, match="rounds=0 has to be at least 1"):
        measure_layer(BITSERIAL["dense"], rounds=0)


def test_without_tvm_a_sentence_says_how_to_install_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "tvm", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'releq_gym\[tvm\]'"):
        require_tvm()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'releq_gym\[tvm\]'"):
        measure_layer(BITSERIAL["dense"])
    pytest.importorskip("torch")
    assert main(["hardware", "measure", "digits", "--output", str(tmp_path / "x.json")]) == 2
    assert "pip install 'releq_gym[tvm]'" in capsys.readouterr().err


LAYERS = [
    layer("conv", (4, 3, 3, 3), 16, name="first"),
    layer("linear", (6, 8), 1, name="second"),
    layer("linear", (6, 8), 1, name="third"),
]


@pytest.fixture
def measured(monkeypatch):
    """Layers and bitwidths that were timed, by a clock that needs no TVM."""
    timed = []

    def measure(case, bitwidths, rounds):
        timed.append((case.name, *bitwidths))
        if case.name == measure.stop_at:
            raise KeyboardInterrupt
        return [Timing(b, b * case.macs / 1e6, 0.5, "bitserial_toy") for b in bitwidths]

    measure.stop_at = None
    monkeypatch.setattr(tvm_timing, "measure_layer", measure)
    monkeypatch.setattr(tvm_timing, "require_tvm", lambda: SimpleNamespace(__version__="9"))
    monkeypatch.setattr(tvm_timing, "processor", lambda: "toy")
    return SimpleNamespace(timed=timed, measure=measure)


def test_the_file_holds_a_row_per_layer_and_bitwidth(measured, tmp_path):
    done = []
    file = measure_net(
        "toy", LAYERS, tmp_path / "new" / "toy.json", (2, 8), command="releq x", advance=done.append
    )
    assert measured.timed == [("first", 2, 8), ("second", 2, 8)]
    assert done == [1, 2]
    assert [each.name for each in file.parent.iterdir()] == ["toy.json"]
    content = json.loads(file.read_text())
    assert content.pop("cpu").endswith("(toy)")
    rows = content.pop("rows")
    assert [(row["layer"], row["bitwidth"]) for row in rows] == [
        (name, b) for name in ("first", "second", "third") for b in (2, 8)
    ]
    assert rows[-1] == {
        "layer": "third",
        "bitwidth": 8,
        "value": 8 * 48 / 1e6,
        "spread": 0.5,
        "operator": "bitserial_toy",
    }
    layers = content.pop("layers")
    assert layers[0] == {
        "layer": "first",
        "weight_shape": [4, 3, 3, 3],
        "macs": 108 * 16,
        "kind": "conv",
    }
    assert content.pop("versions").keys() == {"tvm", "releq_gym"}
    assert content == {
        "schema": "releq-lookup/1",
        "figure": "milliseconds",
        "net": "toy",
        "threads": 1,
        "activation_bitwidth": 8,
        "rounds": 101,
        "command": "releq x",
    }


def test_what_was_measured_before_an_interruption_is_kept(measured, tmp_path):
    file, partial = tmp_path / "toy.json", tmp_path / "toy.partial.json"
    measured.measure.stop_at = "second"
    with pytest.raises(KeyboardInterrupt):
        measure_net("toy", LAYERS, file, (2, 8))
    assert not file.exists()
    assert [row["layer"] for row in json.loads(partial.read_text())["rows"]] == ["first"] * 2

    measured.measure.stop_at = None
    measured.timed.clear()
    measure_net("toy", LAYERS, file, (2, 8))
    assert measured.timed == [("second", 2, 8)]
    assert len(json.loads(file.read_text())["rows"]) == 6
    assert not partial.exists()


def test_a_layer_that_lacks_a_bitwidth_is_timed_anew_at_all_of_them(measured, tmp_path):
    measured.measure.stop_at = "second"
    with pytest.raises(KeyboardInterrupt):
        measure_net("toy", LAYERS, tmp_path / "toy.json", (2, 8))
    measured.measure.stop_at = None
    measured.timed.clear()
    file = measure_net("toy", LAYERS, tmp_path / "toy.json", (4, 8))
    assert measured.timed == [("first", 4, 8), ("second", 4, 8)]
    assert {row["bitwidth"] for row in json.loads(file.read_text())["rows"]} == {4, 8}


def test_files_that_do_not_fit_are_left_alone_with_a_sentence(measured, tmp_path):
    file, partial = tmp_path / "toy.json", tmp_path / "toy.partial.json"
    file.write_text("mine")
    with pytest.raises(ValueError, match="exists; remove it to measure again"):
        measure_net("toy", LAYERS, file)
    assert file.read_text() == "mine"
    file.unlink()
    for text in ("half a fi", "[]", "{}"):
        partial.write_text(text)
        with pytest.raises(ValueError, match="is damaged; remove it to start afresh"):
            measure_net("toy", LAYERS, file)
    measured.measure.stop_at = "second"
    partial.unlink()
    with pytest.raises(KeyboardInterrupt):
        measure_net("toy", LAYERS, file)
    with pytest.raises(ValueError, match="begun with another net"):
        measure_net("other", LAYERS, file)
    with pytest.raises(ValueError, match="begun with another rounds"):
        measure_net("toy", LAYERS, file, rounds=3)
    with pytest.raises(ValueError, match="begun with another layers"):
        measure_net("toy", LAYERS[:2], file)


def test_the_command_measures_a_net_and_stops_without_a_traceback(
    measured, tmp_path, capsys, monkeypatch
):
    pytest.importorskip("torch")
    monkeypatch.setattr("releq_gym.hardware.tvm_operator.require_tvm", lambda: None)
    file = tmp_path / "digits.json"
    typed = ["hardware", "measure", "digits", "--bitwidths", "2", "8", "--output", str(file)]
    measured.measure.stop_at = "fc1"
    assert main(typed) == 130
    measured.measure.stop_at = None
    assert main(typed) == 0
    assert f"written to {file}" in capsys.readouterr().out.replace("\n", "")
    content = json.loads(file.read_text())
    assert content["command"] == "releq hardware measure digits --bitwidths 2 8"
    assert main(typed) == 2
    error = capsys.readouterr().err
    assert "remove it to measure again" in error
    assert "On the command line: output is --output." in error


@pytest.mark.parametrize("kind", ["depthwise", "transposed"])
def test_rows_of_a_prime_width_are_computed_right(kind):
    pytest.importorskip("tvm")
    shape = (6, 1, 3, 3) if kind == "depthwise" else (6, 4, 3, 3)
    groups = 6 if kind == "depthwise" else 1
    geometry = geometry_of(layer(kind, shape, 17 * 17, groups=groups))
    x, w = codes(geometry, 8)
    operator = compile_layer(geometry, 8)
    assert np.array_equal(operator.answer(operator.arguments(x, w)), exact_answer(geometry, x, w))
