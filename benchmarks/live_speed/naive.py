"""What a straightforward loop does: copy the network, quantize it, run it, count.

It runs on the same number of images at a time as what it is compared with.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from releq_gym.evaluators.base import Evaluation
from releq_gym.evaluators.live import LiveEvaluator
from releq_gym.quantized import bake, quantize_network
from releq_gym.training.accuracy import batch_size


class Answer(NamedTuple):
    """One assignment, measured by the loop.

    Attributes:
        outputs: Of every image, ``[images, classes]``.
        quantizing: Seconds of copying and quantizing.
        running: Seconds of running the network.
    """

    outputs: Tensor
    quantizing: float
    running: float


class Naive:
    """The loop, for the network, the search images and the quantizer of a live evaluator.

    Args:
        live: Recipe ``"ptq"``.
        dtype: What the network computes in.

    Attributes:
        live: As given; stands in for everything but `evaluate`.
        seconds: What all calls of `evaluate` have taken.
    """

    def __init__(self, live: LiveEvaluator, dtype: torch.dtype = torch.float32):
        self.live, self.dtype, self.seconds = live, dtype, 0.0
        self.name, self.net, self.layers = f"naive {live.name}", live.net, live.layers
        self.bitwidths, self.repeats, self.images = live.bitwidths, 1, live.images
        self.full_precision_accuracy = live.full_precision_accuracy

    def answer(self, bitwidths: Sequence[int]) -> Answer:
        """Measures one assignment."""
        live, started = self.live, time.perf_counter()
        names = [layer.name for layer in live.layers]
        module = bake(quantize_network(live.module, names, bitwidths, live.quantizer))
        module = module.to(self.dtype)
        quantized, images = time.perf_counter(), live.splits.search.images
        with torch.inference_mode():
            outputs = [
                module(live.normalise(batch).to(self.dtype)).float()
                for batch in images.split(batch_size(images.shape[1:], images.device))
            ]
        return Answer(torch.cat(outputs), quantized - started, time.perf_counter() - quantized)

    def evaluate(self, bitwidths: Sequence[int], repeat: int) -> Evaluation:
        """Accuracy on the search split."""
        answer = self.answer(bitwidths)
        self.seconds += answer.quantizing + answer.running
        right = answer.outputs.argmax(1) == self.live.splits.search.labels
        return Evaluation(float(right.double().mean()))
