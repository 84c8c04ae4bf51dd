"""Quantizes a module, and keeps quantized and full-precision networks in files."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from releq_gym.activations import QuantizeActivation, activation_bitwidth, attach
from releq_gym.layers import BITWIDTHS, FULL_PRECISION
from releq_gym.networks.base import NETWORKS
from releq_gym.networks.profile import QUANTIZABLE, output_axis
from releq_gym.networks.resolve import NetworkLike, resolve_network
from releq_gym.plain_numbers import is_real
from releq_gym.quantizers.base import Codes, Grid, Quantizer
from releq_gym.registry import UnknownNameError
from releq_gym.whole_files import written_whole

FORMAT = "releq-quantized/1"

QUANTIZED_FILE = "quantized.safetensors"
"""In the folder of a run."""


class FakeQuantize(nn.Module):
    """The parametrization of one layer's weight: full precision in, quantized out.

    Learned tensors of the quantizer's state are parameters, the others buffers.

    Args:
        quantizer: What quantizes.
        weight: The full-precision weight before retraining.
        bitwidth: 1 to 8.
        axis: Axis of the output channels.
    """

    def __init__(self, quantizer: Quantizer, weight: Tensor, bitwidth: int, axis: int = 0):
        super().__init__()
        state = quantizer.init(weight.detach(), bitwidth, axis)
        self.quantizer, self.bitwidth = quantizer, int(bitwidth)
        self._names = tuple(state)
        for name, tensor in state.items():
            if name in quantizer.learned:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    @property
    def state(self) -> dict[str, Tensor]:
        """The quantizer's tensors for this layer."""
        return {name: getattr(self, name) for name in self._names}

    def forward(self, weight: Tensor) -> Tensor:
        """The quantized weight, in the memory layout of the weight."""
        quantized = self.quantizer.quantize(weight, self.state, self.bitwidth)
        if quantized.stride() != weight.stride():
            # Operations forget that the weight of a convolution of one channel is channels-last,
            # and the layers from there on would then run in the slower layout.
            quantized = torch.empty_like(weight, requires_grad=False).copy_(quantized)
        return quantized

    def grid(self, weight: Tensor) -> Grid:
        """Where the weights lie among their levels."""
        return self.quantizer.grid(weight, self.state, self.bitwidth)

    def encode(self, weight: Tensor) -> Codes:
        """The quantized weight as integers and a scale."""
        return self.quantizer.encode(weight, self.state, self.bitwidth)

    def extra_repr(self) -> str:
        """What ``print(module)`` shows."""
        return f"{self.quantizer}, bitwidth={self.bitwidth}"


class TiedQuantize(nn.Module):
    """The parametrization of any other use of a weight that a `FakeQuantize` quantizes.

    Args:
        first: The one of the layer that the weight is named after.
    """

    def __init__(self, first: FakeQuantize):
        super().__init__()
        self.first = first

    def forward(self, weight: Tensor) -> Tensor:
        """The quantized weight."""
        return self.first(weight)


def quantize_network(
    module: nn.Module, layers: Sequence[str], bitwidths: Sequence[int], quantizer: Quantizer
) -> nn.Module:
    """A copy whose named layers compute with quantized weights, ready to be retrained.

    The weights stay in full precision underneath, as
    ``<layer>.parametrizations.weight.original``; biases and batch norm are untouched. A weight
    that several modules share stays shared: all of them compute with the quantized one.

    Args:
        module: The full-precision network; not changed.
        layers: Dotted names of convolutions and fully connected layers, one per weight.
        bitwidths: One per name, 1 to 8.
        quantizer: What quantizes.

    Raises:
        ValueError: If a name is no such layer, two of them share a weight, a bitwidth is missing
            or outside 1 to 8, a weight is parametrized already, or the quantizer cannot tell a
            layer's channels apart.
    """
    if len(layers) != len(bitwidths):
        raise ValueError(
            f"{len(layers)} layers need as many bitwidths, one each; got {len(bitwidths)}."
        )
    quantized = copy.deepcopy(module)
    found = {name: m for name, m in quantized.named_modules() if isinstance(m, QUANTIZABLE)}
    users = parameter_users(quantized)
    for name, bitwidth in zip(layers, bitwidths, strict=True):
        if name not in found:
            raise UnknownNameError("layer", name, list(found))
        layer = found[name]
        check_weight(name, layer)
        axis = output_axis(name, layer, quantizer)
        fake = FakeQuantize(quantizer, layer.weight, bitwidth, axis)
        for part, attribute in users[id(layer.weight)]:
            first = part is layer and attribute == "weight"
            parametrize.register_parametrization(
                part, attribute, fake if first else TiedQuantize(fake)
            )
    return quantized


def parameter_users(module: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """The modules that hold each parameter, and its name there, by the parameter's ``id``."""
    users: dict[int, list[tuple[nn.Module, str]]] = {}
    for part in module.modules():
        for attribute, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
            users.setdefault(id(parameter), []).append((part, attribute))
    return users


def check_weight(name: str, layer: nn.Module) -> None:
    """Refuses a weight that is computed from others, or a layer without a name.

    Args:
        name: Of the layer.
        layer: It.

    Raises:
        ValueError: If it is.
    """
    if not name:
        raise ValueError(
            "The network is itself the layer, so that this has no name; wrap it in "
            "torch.nn.Sequential(...)."
        )
    chain = _parametrizations(layer).get("weight")
    if chain is not None and isinstance(chain[0], TiedQuantize):
        raise ValueError(
            f"Layer {name!r} shares its weight, and so its bitwidth, with a layer that is named "
            "before it; leave one of them out."
        )
    if not isinstance(layer.weight, nn.Parameter):
        raise ValueError(
            f"The weight of layer {name!r} is parametrized already, by an earlier quantization or "
            "a weight norm; take that off first: torch.nn.utils.parametrize."
            "remove_parametrizations(layer, 'weight'), or remove_weight_norm(layer) of the old "
            "kind, keeps the weights as they are."
        )


def bake(module: nn.Module) -> nn.Module:
    """A copy with plain quantized weights instead of parametrizations: fast, and as accurate."""
    baked = copy.deepcopy(module)
    chains = _parametrizations(baked)
    quantized = [
        (chain.original, chain().detach())
        for chain in chains.values()
        if isinstance(chain[0], FakeQuantize)
    ]
    for path in chains:
        owner, _, attribute = path.rpartition(".")
        part = baked.get_submodule(owner)
        # torch deletes the property from the part's class, which all copies share.
        shared = type(part)
        part.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
        parametrize.remove_parametrizations(part, attribute, leave_parametrized=False)
    for parameter, values in quantized:
        parameter.data = values
    return baked


def fake_quantizers(module: nn.Module) -> dict[str, FakeQuantize]:
    """The `FakeQuantize` of every layer that `quantize_network` quantized, by layer name."""
    return {
        path.rpartition(".")[0]: chain[0]
        for path, chain in _parametrizations(module).items()
        if isinstance(chain[0], FakeQuantize)
    }


def _parametrizations(module: nn.Module) -> dict[str, Any]:
    """The parametrizations that `quantize_network` made, by the dotted name of the parameter."""
    return {
        f"{name}.{attribute}".removeprefix("."): chain
        for name, part in module.named_modules()
        if parametrize.is_parametrized(part)
        for attribute, chain in part.parametrizations.items()
        if isinstance(chain[0], FakeQuantize | TiedQuantize)
    }


def save_weights(module: nn.Module, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes a full-precision checkpoint as safetensors; the file appears whole or not at all.

    Only weights (floating parameters of two or more axes) are stored in ``dtype``. Biases and
    batch norm hardly take space; variances and masks can leave the range of float16.

    Args:
        module: Without parametrizations.
        path: Where to write; missing folders are made.
        dtype: Of the stored weights, for instance ``torch.float32`` to keep them exactly.
    """
    weights = {
        name
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if parameter.is_floating_point() and parameter.dim() > 1
    }
    tensors = {
        name: tensor.to(dtype) if name in weights else tensor
        for name, tensor in _tensors(module).items()
    }
    _write(path, tensors)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Loads a safetensors checkpoint into a module, every tensor in the module's own dtype.

    A module with a method ``adapt_checkpoint(tensors)`` is asked first to translate the names of
    checkpoints that come from elsewhere.

    Args:
        module: Changed in place.
        path: What `save_weights` or ``safetensors.torch.save_file`` wrote.

    Raises:
        ValueError: If there is no such file, it is not safetensors (pickles are never opened), its
            names or shapes are not the module's, or a tensor holds NaN or infinity.
    """
    adapt = getattr(module, "adapt_checkpoint", dict)
    _load_strictly(module, adapt(_read(path)), path)


def save_quantized(path: str | Path, module: nn.Module, meta: Mapping[str, Any]) -> None:
    """Writes a quantized network as safetensors: integer codes, scales, and all else exactly.

    The tensors are ``<layer>.weight.codes`` (int8, or int16 where codes exceed 127),
    ``<layer>.weight.scale`` (float32), and every other parameter and buffer under its own name;
    what a module keeps by ``get_extra_state`` is left out.
    A quantized weight that several modules share is there once, under the layer's name.
    The header's ``releq`` is JSON: ``meta`` and ``format``, ``bitwidths`` (by layer), ``quantizer``
    (name and arguments), ``activation_bitwidth`` (8 where every quantized layer rounds its inputs,
    by the tensors ``<layer>.input_quantizer.*``, else 32). The file appears whole or not at all.

    Args:
        path: Where to write; missing folders are made.
        module: What `quantize_network` returned, retrained or not.
        meta: Plain JSON to keep; ``meta["net"]``, a registered name, lets `load_quantized` rebuild
            the network without being told.

    Raises:
        ValueError: If the module has no quantized layer, or ``meta`` uses a key of the format.
    """
    fakes = fake_quantizers(module)
    if not fakes:
        raise ValueError("The module has no quantized layers; call quantize_network first.")
    quantizers = {fake.quantizer for fake in fakes.values()}
    if len(quantizers) > 1:
        raise ValueError(f"One file holds one quantizer; the module uses {quantizers}.")
    (quantizer,) = quantizers
    header = {
        "format": FORMAT,
        "bitwidths": {name: fake.bitwidth for name, fake in fakes.items()},
        "quantizer": {"name": quantizer.name, **dataclasses.asdict(quantizer)},
        "activation_bitwidth": activation_bitwidth(module, list(fakes)),
    }
    if taken := sorted(header.keys() & meta.keys()):
        raise ValueError(f"meta may not hold {', '.join(taken)}: the file format sets them itself.")
    baked = bake(module)
    tensors = _tensors(baked)
    for names in _names(baked):
        if any(f"{name}.weight" in names for name in fakes):
            for name in names:
                del tensors[name]
    for name, fake in fakes.items():
        encoded = fake.encode(module.get_parameter(f"{name}.parametrizations.weight.original"))
        tensors[f"{name}.weight.codes"] = encoded.codes
        tensors[f"{name}.weight.scale"] = encoded.scale
    _write(path, tensors, {"releq": json.dumps({**meta, **header})})


def load_quantized(path: str | Path, net: NetworkLike | None = None) -> nn.Module:
    """The network that `save_quantized` wrote, in evaluation mode, on the CPU.

    Its weights are plain parameters and its outputs, of a float32 module, equal those of
    ``bake(module)`` to the bit. It takes what the module took: where the network states a mean and
    a standard deviation, inputs in 0 to 1 less that, divided by this. Files of a search or a run
    have both in their header, ``read_header(path)["mean"]`` and ``["std"]``.

    Args:
        path: The file, or the folder of a run or a search that holds it.
        net: What to load it into; by default the registered net that the file names. Factories
            named by a file are not imported: pass them here if you trust them.

    Raises:
        ValueError: If there is no such file, it is not of this format or damaged, names no
            registered net while ``net`` is not given, or does not fit the net.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        path = path / QUANTIZED_FILE
    header = read_header(path)
    if net is None and header.get("net") not in NETWORKS:
        raise ValueError(
            f"{path} is of the net {header.get('net')!r}, which is not registered, and what a file "
            "names is not imported; if you trust it, pass the module or its factory as net=."
        )
    tensors = _read(path)
    for name, bitwidth in header["bitwidths"].items():
        tensors[f"{name}.weight"] = _pop_weight(tensors, name, bitwidth, path)
    with torch.random.fork_rng(devices=[]):  # drawn weights are replaced at once
        module = resolve_network(header["net"] if net is None else net).build()
    if header.get("activation_bitwidth", FULL_PRECISION) != FULL_PRECISION:
        layers = dict(module.named_modules())
        for name in header["bitwidths"]:
            if name not in layers:
                raise ValueError(
                    f"{path} does not fit {type(module).__name__}, which has no layer {name!r}. "
                    "Pass the very network as net=."
                )
            attach(layers[name], QuantizeActivation())
    _load_strictly(module, tensors, path)
    return module.eval()


def read_header(path: str | Path) -> dict[str, Any]:
    """What `save_quantized` noted beside the tensors: bitwidths, quantizer, the caller's ``meta``.

    Raises:
        ValueError: If there is no such file or it is not of this format.
    """
    with _open(path) as file:
        text = (file.metadata() or {}).get("releq", "{}")
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: its header is not JSON ({error}).") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path} is damaged: its header is no JSON object but {text[:80]}.")
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no quantized network of the format {FORMAT!r} but "
            f"{header.get('format', 'plain safetensors')!r}; save_quantized writes them, "
            "load_weights reads full-precision checkpoints."
        )
    bitwidths = header.get("bitwidths")
    if not isinstance(bitwidths, dict) or not all(
        type(bitwidth) is int and bitwidth in BITWIDTHS for bitwidth in bitwidths.values()
    ):
        raise ValueError(
            f"{path} is damaged: its header has to give every quantized layer a bitwidth from 1 to "
            f"8, but bitwidths is {bitwidths!r}."
        )
    for name in ("mean", "std"):
        held = header.get(name, [])
        if not isinstance(held, list) or not all(map(is_real, held)):
            raise ValueError(f"{path} is damaged: {name} of its header is {held!r}, no numbers.")
    return header


def _pop_weight(tensors: dict[str, Tensor], name: str, bitwidth: int, path: str | Path) -> Tensor:
    """Takes a layer's codes and scale out of ``tensors``; returns the weight they stand for."""
    try:
        codes, scale = (tensors.pop(f"{name}.weight.{part}") for part in ("codes", "scale"))
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it lacks {error}.") from None
    damaged = f"{path} is damaged: layer {name!r} has"
    if codes.dtype not in (torch.int8, torch.int16) or scale.dtype != torch.float32:
        raise ValueError(
            f"{damaged} codes of {codes.dtype} and a scale of {scale.dtype}, expected int8 or "
            "int16 and float32."
        )
    # No matter which they are: a grid of one's own may have any.
    levels = int((codes.flatten().int() - torch.iinfo(codes.dtype).min).bincount().count_nonzero())
    if levels > 2**bitwidth:
        raise ValueError(f"{damaged} {levels} different codes, but {bitwidth} bits.")
    try:
        return Codes(codes, scale).decode()
    except RuntimeError as error:
        raise ValueError(f"{damaged} a scale that does not fit its codes ({error}).") from None


def _open(path: str | Path) -> safe_open:
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        with path.open("rb") as file:
            pickled = file.read(2) in (b"PK", *(bytes([128, version]) for version in range(2, 6)))
        if not pickled and path.suffix == ".safetensors":
            raise ValueError(
                f"{str(path)!r} is damaged or incomplete ({error}); fetch or write it again."
            ) from error
        raise ValueError(
            f"{str(path)!r} is not a safetensors file ({error}). Pickled checkpoints (.pt, .pth) "
            "are never opened here, because they can run code. Convert one that you trust with "
            "safetensors.torch.save_file(torch.load(OLD, weights_only=True), NEW)."
        ) from error


def _read(path: str | Path) -> dict[str, Tensor]:
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


def _write(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    # Clones, because safetensors refuses tensors that share memory, as tied weights do.
    content = save({name: t.cpu().contiguous().clone() for name, t in tensors.items()}, metadata)
    with written_whole(path) as partial:
        partial.write_bytes(content)


def weights_and_statistics(module: nn.Module) -> dict[str, Tensor]:
    """What has to be finite, by all its names: parameters and what batch norms measured.

    Other buffers may be masks, of which -inf is a part.
    """
    statistics = {
        f"{name}.{buffer}".removeprefix("."): tensor
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm)
        for buffer, tensor in part.named_buffers(recurse=False)
    }
    return {**dict(module.named_parameters(remove_duplicate=False)), **statistics}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Its state without what ``get_extra_state`` adds, which may be anything."""
    return {name: each for name, each in module.state_dict().items() if isinstance(each, Tensor)}


def _names(module: nn.Module) -> list[list[str]]:
    """All names of every parameter: several where modules share it, or a module has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return list(names.values())


def _some(names: Sequence[str], count: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "nothing") + more


def _load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    tensors = dict(tensors)
    parameters = _names(module)
    for names in parameters:
        # Files may hold a shared parameter under one of its names.
        held = [name for name in names if name in tensors]
        tensors |= {name: tensors[held[0]] for name in names if held and name not in tensors}
    expected, numbers = _tensors(module), weights_and_statistics(module)
    kind = type(module).__name__
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected)
    if missing or extra:
        raise ValueError(
            f"{path} does not fit {kind}: it lacks {_some(missing)} and has {_some(extra)} in "
            "excess. Use the checkpoint of this very network."
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{path} does not fit {kind}: {name} has the shape {tuple(tensor.shape)} where "
                f"the network has {tuple(expected[name].shape)}."
            )
        if name in numbers and not tensor.float().isfinite().all():
            raise ValueError(f"{path} holds NaN or infinity in {name}; train the network anew.")
    for names in parameters:
        if any(not torch.equal(tensors[names[0]], tensors[name]) for name in names[1:]):
            raise ValueError(
                f"{path} does not fit {kind}, in which {' and '.join(names)} are one tensor: it "
                "holds different ones."
            )
    state = OrderedDict(tensors)
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=False)  # extra state is in no file
