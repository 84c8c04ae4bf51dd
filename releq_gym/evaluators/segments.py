"""Cuts a network before every quantized layer, so that what precedes a change is computed once."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from releq_gym.activations import QuantizeActivation
from releq_gym.quantized import parameter_users
from releq_gym.training.device import packs_bfloat16

TOLERANCE = 1e-3
"""Largest difference of a cut network's outputs, relative to their size."""

OUT_OF_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul}

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d

SUMS = {operator.add, torch.add}

RELUS = {functional.relu, torch.relu}


@dataclass(frozen=True)
class Segment:
    """One piece of a network: from just before one quantized layer to just before the next.

    Attributes:
        run: Takes the values named by ``inputs``, returns those named by ``outputs``.
        inputs: Names of the values that come in.
        outputs: Names of the values that go out.
        layers: Indices of the quantized layers that it executes.
        decided: How many layers, from the first on, its result depends on.
    """

    run: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[int, ...]
    decided: int


@dataclass(frozen=True)
class CutNetwork:
    """A network in segments, in evaluation mode.

    Attributes:
        segments: First to last; the last one returns the outputs.
        users: Per quantized layer, the modules of the segments that hold its weight, and the name
            it has there: what is to be replaced.
        folded: By which factor per output channel a batch norm that went into a layer scales its
            weight, by the layer's index.
        input: Name of the value that the first segment takes.
        ends_alone: Whether the last segment is a fully connected layer and nothing else.
        reason: Why it could not be cut, where it is one segment; else empty.
    """

    segments: tuple[Segment, ...]
    users: tuple[tuple[tuple[nn.Module, str], ...], ...]
    folded: dict[int, Tensor]
    input: str
    ends_alone: bool = False
    reason: str = ""


def cut_network(
    module: nn.Module,
    layers: Sequence[str],
    images: Tensor,
    dtype: torch.dtype = torch.float32,
) -> CutNetwork:
    """Cuts a copy of a module, checked to compute what the module computes.

    Batch norms that directly follow a quantized convolution are folded into it, which in
    evaluation mode changes nothing but rounding. A module that torch.fx cannot trace, or that
    computes something else when it is traced, becomes one segment: its ``reason`` says why.

    Args:
        module: In evaluation mode; left as it is.
        layers: Names of the quantized layers in order of first execution.
        images: A few inputs ``[n, ...]`` to compare the outputs on.
        dtype: What the cut network is going to compute in.
    """
    try:
        cut = _cut(copy.deepcopy(module), layers, images, dtype)
        with torch.inference_mode():
            expected, found = module(images), run_segments(cut, images)
        largest = float(expected.abs().max().clamp_min(1e-6))
        if not torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * largest):
            raise ValueError("its traced form computes something else")
        return cut
    # Tracing runs the user's own code on proxies: there is no telling what that raises.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return _whole(copy.deepcopy(module), layers, reason)


def run_segments(cut: CutNetwork, images: Tensor) -> Tensor:
    """The outputs of a cut network with the weights that its layers hold at the moment."""
    values = {cut.input: images}
    for segment in cut.segments:
        results = segment.run(*(values[name] for name in segment.inputs))
        values.update(zip(segment.outputs, results, strict=True))
    return values[cut.segments[-1].outputs[0]]


class OneDnnLinear(nn.Module):
    """A fully connected layer by oneDNN: on some processors faster than what PyTorch takes.

    Its weight is to be given as ``weight.to_mkldnn()``.

    Args:
        linear: The layer to compute, float32 on a CPU.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.input_quantizer = getattr(linear, "input_quantizer", nn.Identity())
        self.weight = linear.weight.detach().to_mkldnn()
        self.bias = None if linear.bias is None else linear.bias.detach().to_mkldnn()

    def forward(self, inputs: Tensor) -> Tensor:
        """``[..., inputs]`` to ``[..., outputs]``."""
        return functional.linear(
            self.input_quantizer(inputs).to_mkldnn(), self.weight, self.bias
        ).to_dense()


class _Whole(nn.Module):
    """A network that could not be cut: one segment, whose result is a tuple of one."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The outputs."""
        return (self.module(images),)


def _whole(module: nn.Module, layers: Sequence[str], reason: str) -> CutNetwork:
    every = tuple(range(len(layers)))
    segment = Segment(_Whole(module), ("images",), ("outputs",), every, len(layers))
    holders = parameter_users(module)
    weights = [module.get_submodule(name).get_parameter("weight") for name in layers]
    users = tuple(tuple(holders[id(weight)]) for weight in weights)
    return CutNetwork((segment,), users, {}, "images", reason=reason)


class _OneInput(nn.Module):
    """A network that is given its first argument alone."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """The outputs."""
        return self.module(images)


def _cut(
    network: nn.Module, names: Sequence[str], images: Tensor, dtype: torch.dtype
) -> CutNetwork:
    module = _OneInput(network).eval()
    layers = [f"module.{name}" for name in names]
    graph = fx.Tracer().trace(module)
    traced = fx.GraphModule(module, graph)
    _refuse_shared_weights(module, layers)
    _refuse_direct_use(graph, layers)
    with torch.no_grad():
        _OverwriteCheck(traced).run(images.clone())
    graph.eliminate_dead_code()
    _make_functional(traced)
    folded = _fold_batch_norms(traced, layers)
    traced.recompile()
    _reuse_memory(traced, _pieces(graph, layers), images)
    packs = dtype == torch.float32 or packs_bfloat16(images.device)
    if packs and images.device.type == "cpu" and torch.backends.mkldnn.is_available():
        for name in layers:
            linear = traced.get_submodule(name)
            if isinstance(linear, nn.Linear) and linear.weight.dtype == torch.float32:
                traced.set_submodule(name, OneDnnLinear(linear))
    first = next(node for node in graph.nodes if node.op == "placeholder")
    pieces = _pieces(graph, layers)
    segments = tuple(
        _segment(traced, pieces, place, layers) for place, piece in enumerate(pieces) if piece
    )
    modules = [traced.get_submodule(name) for name in layers]
    ends_alone = (
        len(pieces[-1]) == 1
        and isinstance(modules[-1], nn.Linear | OneDnnLinear)
        and not isinstance(getattr(modules[-1], "input_quantizer", None), QuantizeActivation)
    )
    users = tuple(((part, "weight"),) for part in modules)
    return CutNetwork(segments, users, folded, first.name, ends_alone)


def _refuse_shared_weights(module: nn.Module, layers: Sequence[str]) -> None:
    """A weight that another module holds too may act long before its layer does."""
    holders = parameter_users(module)
    for name in layers:
        if len(holders[id(module.get_submodule(name).get_parameter("weight"))]) > 1:
            layer = name.removeprefix("module.")
            raise ValueError(f"other modules share the weight of {layer}")


def _refuse_direct_use(graph: fx.Graph, layers: Sequence[str]) -> None:
    """A weight that is read past its layer would not be replaced there."""
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target).rpartition(".")[0] in layers:
            weight = str(node.target).removeprefix("module.")
            raise ValueError(f"it reads {weight} directly")


class _OverwriteCheck(fx.Interpreter):
    """Runs a graph and refuses one that goes on with a value, or a view of it, that it wrote to.

    The few inputs at hand may not show what that changes: a clamp that cuts nothing off writes,
    too. What nothing reads after it was written to may be computed out of place.
    """

    def __init__(self, traced: fx.GraphModule):
        super().__init__(traced)
        self._place = {node: place for place, node in enumerate(traced.graph.nodes)}
        self._held: list[tuple[fx.Node, Tensor, int]] = []

    def run_node(self, n: fx.Node) -> Any:
        """Its value; raises ValueError where something that was written to is read later."""
        value = super().run_node(n)
        place = self._place[n]
        for index, (held, tensor, version) in enumerate(self._held):
            if tensor._version == version:
                continue
            if held.op == "get_attr" or any(self._place[user] > place for user in held.users):
                raise ValueError(f"it goes on with {held.name} after {n.name} has changed that")
            self._held[index] = held, tensor, tensor._version
        values = value if isinstance(value, tuple | list) else [value]
        self._held += [(n, one, one._version) for one in values if isinstance(one, Tensor)]
        return value


def _make_functional(traced: fx.GraphModule) -> None:
    """Nothing may write to a value that another assignment goes on with."""
    for part in traced.modules():
        if getattr(part, "inplace", False) is True:
            setattr(part, "inplace", False)  # noqa: B010
    for node in traced.graph.nodes:
        if node.op == "call_function":
            node.target = _out_of_place(node.target)
            if node.kwargs.get("inplace"):
                node.kwargs = node.kwargs | {"inplace": False}
            if node.kwargs.get("out") is not None:
                raise ValueError("it writes into a value, by out=")
        elif node.op == "call_method" and node.target.endswith("_"):
            functional_name = node.target.rstrip("_")
            if not hasattr(Tensor, functional_name):
                raise ValueError(f"it calls {node.target} on a value, which changes that")
            node.target = functional_name
        if node.op == "call_function" and node.target is operator.setitem:
            raise ValueError("it assigns to a part of a value")


def _out_of_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """What computes the same without changing its argument.

    Raises:
        ValueError: Where there is no such function.
    """
    name = getattr(function, "__name__", "")
    if not name.endswith("_") or name.endswith("__"):
        return OUT_OF_PLACE.get(function, function)
    for module in (torch, functional):
        if hasattr(module, name[:-1]):
            return getattr(module, name[:-1])
    raise ValueError(f"it calls {name} on a value, which changes that")


def _fold_batch_norms(traced: fx.GraphModule, layers: Sequence[str]) -> dict[int, Tensor]:
    """Takes batch norms out that follow a quantized convolution and nothing else reads."""
    modules = dict(traced.named_modules())
    called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    folded = {}
    for node in list(traced.graph.nodes):
        norm = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(norm, _BatchNorm) or norm.running_var is None:
            continue
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        conv, layer = modules[str(before.target)], str(before.target)
        once = called.count(layer) == 1 and len(before.users) == 1
        if not isinstance(conv, Conv) or not once or layer not in layers:
            continue
        traced.set_submodule(layer, fuse_conv_bn_eval(conv, norm))
        scale = torch.rsqrt(norm.running_var + norm.eps)
        folded[list(layers).index(layer)] = scale if norm.weight is None else scale * norm.weight
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    return folded


def _reuse_memory(traced: fx.GraphModule, pieces: list[list[fx.Node]], images: Tensor) -> None:
    """Lets a ReLU or a sum overwrite what comes in, where nothing else reads that."""
    ShapeProp(traced).propagate(images)
    modules = dict(traced.named_modules())
    for piece in pieces:
        together = set(piece)
        for node in piece:
            module = modules[str(node.target)] if node.op == "call_module" else None
            inputs = node.all_input_nodes
            kept = [
                one
                for one in inputs
                if one in together and len(one.users) == 1 and _is_fresh(one, modules)
            ]
            if not kept or any(_shape(one) != _shape(node) for one in inputs):
                continue
            if node.target in RELUS or isinstance(module, nn.ReLU):
                together.add(_overwrite(traced.graph, node, torch.relu_, (kept[0],)))
            elif node.target in SUMS and len(inputs) == len(node.args) == 2 and not node.kwargs:
                other = inputs[1] if kept[0] is inputs[0] else inputs[0]
                together.add(_overwrite(traced.graph, node, operator.iadd, (kept[0], other)))


def _shape(node: fx.Node) -> tuple[Any, ...]:
    found = node.meta.get("tensor_meta")
    # Of several tensors, as `chunk` returns them, it is a tuple.
    return (found.shape, found.dtype) if isinstance(found, TensorMetadata) else ()


def _overwrite(graph: fx.Graph, node: fx.Node, target: Any, inputs: tuple[fx.Node, ...]) -> fx.Node:
    with graph.inserting_before(node):
        overwriting = graph.call_function(target, inputs)
    overwriting.meta = node.meta
    node.replace_all_uses_with(overwriting)
    graph.erase_node(node)
    return overwriting


def _is_fresh(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a value has memory of its own, which no view shares."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], Conv | nn.Linear | _BatchNorm)
    return node.target in SUMS or node.target in (operator.iadd, torch.relu_)


def _pieces(graph: fx.Graph, layers: Sequence[str]) -> list[list[fx.Node]]:
    """The nodes of every segment: the first one ends before the first quantized layer."""
    pieces: list[list[fx.Node]] = [[]]
    seen: set[str] = set()
    for node in graph.nodes:
        if node.op in ("placeholder", "output", "get_attr"):
            continue
        if node.op == "call_module" and node.target in layers and node.target not in seen:
            if layers[len(seen)] != node.target:
                raise ValueError(
                    f"its traced form runs {node.target} where {layers[len(seen)]} was run before"
                )
            seen.add(node.target)
            pieces.append([])
        pieces[-1].append(node)
    if len(seen) != len(layers):
        raise ValueError("its traced form leaves quantized layers out")
    return pieces


def _segment(
    traced: fx.GraphModule, pieces: list[list[fx.Node]], place: int, layers: Sequence[str]
) -> Segment:
    mine = set(pieces[place])
    result = next(node for node in traced.graph.nodes if node.op == "output").args[0]
    if not isinstance(result, fx.Node):
        raise ValueError("it returns more than one tensor")
    graph, copies, inputs = fx.Graph(), {}, []

    def bring(node: fx.Node) -> fx.Node:
        if node not in copies:
            if node.op == "get_attr":
                copies[node] = graph.get_attr(str(node.target))
            else:
                copies[node] = graph.placeholder(node.name)
                inputs.append(node.name)
        return copies[node]

    outside = {
        other
        for node in pieces[place]
        for other in node.all_input_nodes
        if other not in mine and other.op != "get_attr"
    }
    for node in sorted(outside, key=list(traced.graph.nodes).index):
        bring(node)
    for node in pieces[place]:
        copies[node] = graph.node_copy(node, bring)
    later = {user for piece in pieces[place + 1 :] for user in piece}
    outputs = [node for node in pieces[place] if later & set(node.users)]
    if place == len(pieces) - 1:
        outputs = [result]
    graph.output(tuple(bring(node) for node in outputs))
    used = {node.target for node in pieces[place] if node.op == "call_module"}
    return Segment(
        fx.GraphModule(traced, graph),
        tuple(inputs),
        tuple(node.name for node in outputs),
        tuple(index for index, name in enumerate(layers) if name in used),
        place,
    )
