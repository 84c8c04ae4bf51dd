"""Runs many assignments through one network, each piece of work that they share only once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from releq_gym.datasets import Split
from releq_gym.evaluators.segments import CutNetwork, OneDnnLinear, cut_network
from releq_gym.layers import BITWIDTHS, FULL_PRECISION
from releq_gym.networks.profile import output_axis
from releq_gym.quantizers.base import Quantizer
from releq_gym.training.accuracy import Score, batch_size

Assignment = tuple[int, ...]

Values = dict[str, Tensor]
"""What the segments to come need, by name."""

MEMORY = 2 * 2**30
"""Bytes for activations and weights that are kept, safe on a machine with 8 GB."""


class SharedForward:
    """One network, many assignments: each piece of work is done once.

    Assignments that begin alike share the activations up to the first layer where they differ:
    those of one call as a tree over their common prefixes, those of successive calls through a
    cache. Every layer is quantized once per bitwidth.

    Not safe for use by several threads.

    Args:
        module: The full-precision network, on its device, in the memory layout that is fastest
            there; left as it is.
        layers: Names of the quantized layers in order of first execution.
        quantizer: Of their weights.
        images: A few inputs as the network sees them, to check the cut network on.
        score: What is summed over the inputs.
        dtype: What the network computes in.
        memory: Bytes that kept activations and weights may take, half for each, beside the
            network and one pass.

    Attributes:
        reason: Why nothing but weights can be shared, where the network cannot be cut.
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str],
        quantizer: Quantizer,
        images: Tensor,
        *,
        score: Score,
        dtype: torch.dtype = torch.float32,
        memory: int = MEMORY,
    ):
        self._cut = cut_network(module, layers, images, dtype)
        self._score, self._dtype = score, dtype
        originals = {name: module.get_submodule(name) for name in layers}
        self._weights = _Weights(originals, self._cut, quantizer, dtype, memory // 2)
        for segment in self._cut.segments:
            segment.run.to(dtype)
        # From here on weights are plain tensors, set anew for every assignment.
        for users in self._cut.users:
            for part, attribute in users:
                delattr(part, attribute)
        self._needed = _needed(self._cut)
        self._prefixes = _Prefixes(memory // 2)

    @property
    def reason(self) -> str:
        """Why nothing but weights can be shared; empty where activations are."""
        return self._cut.reason

    @property
    def bytes_kept(self) -> int:
        """What activations and weights take that are kept to be reused."""
        return self._prefixes.held + self._weights.held

    @property
    def largest_weight(self) -> int:
        """Bytes of the largest weight, which is kept even where there is no memory for it."""
        return self._weights.largest

    def scores(
        self,
        assignments: Iterable[Assignment],
        split: Split,
        normalise: Callable[[Tensor], Tensor],
    ) -> dict[Assignment, float]:
        """The sum of the scores of each assignment over all inputs of a split.

        Args:
            assignments: Bitwidths, one per layer; 32 leaves a layer in full precision.
            split: On the device of the network. The cache assumes it to be the same at each call.
            normalise: Applied to each batch of inputs.
        """
        ordered = sorted(set(assignments))
        totals = dict.fromkeys(ordered, 0.0)
        alone = ordered[0] if len(ordered) == 1 else None
        start = self._prefixes.longest(alone) if alone else 0
        size = batch_size(split.images.shape[1:], split.images.device)
        batches = zip(split.images.split(size), split.labels.split(size), strict=True)
        walk = _Walk(self, totals)
        with torch.inference_mode():
            for number, (images, labels) in enumerate(batches):
                position, values = self._begin(alone, start, number, images, normalise)
                walk.batch, walk.labels = number, labels
                walk.keep = start + 1 if alone else None
                walk.descend(position, values, ordered)
        return totals

    def _begin(
        self,
        alone: Assignment | None,
        start: int,
        number: int,
        images: Tensor,
        normalise: Callable[[Tensor], Tensor],
    ) -> tuple[int, Values]:
        """Where to begin with a batch, and with which values."""
        if alone and start:
            kept = self._prefixes.get(alone[:start], number)
            if kept is not None:
                return kept
        return 0, {self._cut.input: normalise(images).to(self._dtype)}


class _Walk:
    """One batch of inputs on its way through all assignments, depth first."""

    def __init__(self, forward: SharedForward, totals: dict[Assignment, float]):
        self.forward, self.totals, self.score = forward, totals, forward._score
        self.batch, self.labels = 0, torch.empty(0)
        self.keep: int | None = None

    def descend(self, position: int, values: Values, assignments: list[Assignment]) -> None:
        """Runs the segments from ``position`` on for assignments that agree before it."""
        forward = self.forward
        segment = forward._cut.segments[position]
        last = position == len(forward._cut.segments) - 1
        if last and len(assignments) > 1 and forward._cut.ends_alone:
            self._classify(values[segment.inputs[0]], assignments)
            return
        for prefix, group in groupby(assignments, key=lambda a: a[: segment.decided]):
            for index in segment.layers:
                weight = forward._weights.get(index, prefix[index])
                for part, attribute in forward._cut.users[index]:
                    setattr(part, attribute, weight)
            results = segment.run(*(values[name] for name in segment.inputs))
            if last:
                self._add(next(group), self.score(results[0].float(), self.labels))
                continue
            ahead = {**values, **dict(zip(segment.outputs, results, strict=True))}
            ahead = {name: ahead[name] for name in forward._needed[position + 1]}
            if segment.decided == self.keep:
                forward._prefixes.put(prefix, self.batch, (position + 1, ahead))
            self.descend(position + 1, ahead, list(group))

    def _classify(self, features: Tensor, assignments: list[Assignment]) -> None:
        """Runs the last layer at several bitwidths at once, as one wider layer."""
        forward, last = self.forward, len(assignments[0]) - 1
        layer = forward._weights.stacked(last, tuple(a[last] for a in assignments))
        outputs = layer(features).float()
        outputs = outputs.unflatten(-1, (len(assignments), -1)).movedim(-2, 0)
        labels = self.labels.expand(len(assignments), *self.labels.shape)
        scores = self.score(outputs.flatten(0, 1), labels.flatten(0, 1))
        for assignment, total in zip(
            assignments, scores.unflatten(0, (len(assignments), -1)), strict=True
        ):
            self._add(assignment, total)

    def _add(self, assignment: Assignment, scores: Tensor) -> None:
        self.totals[assignment] += float(scores.sum(dtype=torch.float64))


def _needed(cut: CutNetwork) -> list[set[str]]:
    """Per segment, the values that it or a later one takes."""
    needed: list[set[str]] = [set()]
    for segment in reversed(cut.segments):
        needed.append((needed[-1] - set(segment.outputs)) | set(segment.inputs))
    return needed[:0:-1]


class _Weights:
    """Quantized weights by layer and bitwidth, as many as memory allows."""

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        cut: CutNetwork,
        quantizer: Quantizer,
        dtype: torch.dtype,
        memory: int,
    ):
        self._originals = [layer.get_parameter("weight").detach() for layer in layers.values()]
        self._biases = [
            None if layer.bias is None else layer.get_parameter("bias").detach().to(dtype)
            for layer in layers.values()
        ]
        self._axes = [output_axis(name, layer, quantizer) for name, layer in layers.items()]
        self._folded, self._quantizer, self._dtype = cut.folded, quantizer, dtype
        self._packed = {
            index for index, users in enumerate(cut.users) if isinstance(users[0][0], OneDnnLinear)
        }
        self._states: dict[int, dict[int, dict[str, Tensor]]] = {}
        self._memory, self.held = memory, 0
        self.largest = max(weight.numel() * dtype.itemsize for weight in self._originals)
        self._kept: OrderedDict[tuple[int, int], Tensor] = OrderedDict()
        self._last_stacked: tuple[int, tuple[int, ...]] | None = None
        self._stacked: nn.Module = nn.Identity()

    def get(self, index: int, bitwidth: int) -> Tensor:
        """The weight of a layer at a bitwidth, batch norm folded in, as the layer takes it."""

        def make() -> Tensor:
            weight = self._quantize(index, bitwidth)
            return weight.to_mkldnn() if index in self._packed else weight

        return self._keep((index, bitwidth), make)

    def stacked(self, index: int, bitwidths: tuple[int, ...]) -> nn.Module:
        """One fully connected layer that is this one at several bitwidths, side by side."""
        if (index, bitwidths) != self._last_stacked:
            weight = torch.cat([self._quantize(index, bitwidth) for bitwidth in bitwidths])
            bias = self._biases[index]
            stacked = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
            stacked.weight = nn.Parameter(weight, requires_grad=False)
            if bias is not None:
                stacked.bias = nn.Parameter(bias.repeat(len(bitwidths)), requires_grad=False)
            self._stacked = OneDnnLinear(stacked) if index in self._packed else stacked
            self._last_stacked = index, bitwidths
        return self._stacked

    def _keep(self, key: tuple[int, int], make: Callable[[], Tensor]) -> Tensor:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        weight = self._kept[key] = make()
        self.held += _bytes(weight)
        while self.held > self._memory and len(self._kept) > 1:
            self.held -= _bytes(self._kept.popitem(last=False)[1])
        return weight

    def _quantize(self, index: int, bitwidth: int) -> Tensor:
        weight, axis = self._originals[index], self._axes[index]
        quantized = weight
        if bitwidth != FULL_PRECISION:
            if index not in self._states:
                # All bitwidths at once, which is hardly more work than the largest one.
                self._states[index] = self._quantizer.init_each(weight, BITWIDTHS, axis)
            quantized = self._quantizer.quantize(weight, self._states[index][bitwidth], bitwidth)
        if index in self._folded:
            shape = [-1 if dim == axis else 1 for dim in range(weight.ndim)]
            quantized = quantized * self._folded[index].view(shape)
        # In the memory layout of the original, channels-last where that is.
        return torch.empty_like(weight, dtype=self._dtype).copy_(quantized)


class _Prefixes:
    """Activations behind a prefix of an assignment, one entry per batch of inputs."""

    def __init__(self, memory: int):
        self._memory, self.held = memory, 0
        self._entries: OrderedDict[Assignment, dict[int, tuple[int, Values]]] = OrderedDict()

    def longest(self, assignment: Assignment) -> int:
        """Layers that the longest kept prefix decides; 0 where there is none."""
        for length in range(len(assignment) - 1, 0, -1):
            if assignment[:length] in self._entries:
                self._entries.move_to_end(assignment[:length])
                return length
        return 0

    def get(self, prefix: Assignment, batch: int) -> tuple[int, Values] | None:
        """The next segment and the values it begins with."""
        return self._entries.get(prefix, {}).get(batch)

    def put(self, prefix: Assignment, batch: int, entry: tuple[int, Values]) -> None:
        """Keeps an entry, if need be instead of those whose prefix was used longest ago.

        Where those of one prefix are too many, its first batches are kept: part of the work is
        then saved for every assignment that begins so.
        """
        while self.held + _size(entry) > self._memory:
            oldest = next(iter(self._entries), prefix)
            if oldest == prefix:
                return
            batches = self._entries[oldest]
            # The earliest batch is the one that a walk has already read.
            self.held -= _size(batches.pop(min(batches)))
            if not batches:
                del self._entries[oldest]
        self.held += _size(entry)
        self._entries.setdefault(prefix, {})[batch] = entry


def _size(entry: tuple[int, Values]) -> int:
    return sum(_bytes(value) for value in entry[1].values() if isinstance(value, Tensor))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
