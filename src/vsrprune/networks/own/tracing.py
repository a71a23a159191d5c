"""Run a network once, and see which convolutions read whose output channels through nothing but plain operations.

An operation is plain if it treats every channel alike, keeps their order, and leaves a channel of zeros at zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from vsrprune.errors import UserError
from vsrprune.networks.own.declaration import TracedConv

PLAIN = {
    *("relu", "relu_", "leaky_relu", "leaky_relu_", "tanh", "elu", "gelu", "silu", "mish", "softsign", "hardtanh"),
    *("relu6", "dropout", "interpolate", "upsample", "avg_pool2d", "max_pool2d", "adaptive_avg_pool2d"),
    *("clone", "contiguous", "to", "float", "double", "detach", "alias", "neg"),
}
# A product with another tensor may weigh channels differently; a number treats all alike.
SCALED = {"mul", "div", "truediv", "__mul__", "__rmul__", "__truediv__"}  # plain with a number
# These read a tensor's shape and no values, so that a cut channel makes no difference to them.
BLIND = {"size", "dim", "numel", "new_zeros", "zeros_like", "empty_like", "stride", "is_contiguous", "__len__"}


@dataclass
class _Calls:
    """What was seen of one convolution."""

    module: nn.Conv2d
    producers: set[str] = field(default_factory=set)
    shuffles: set[int] = field(default_factory=set)
    opaque: list[str] = field(default_factory=list)
    pixels: int = 0
    height: int = 0


@dataclass
class Trace:
    """What a run showed.

    `convs` holds the convolutions by name, in the order of their first call. `scale` is the side of the output over the
    input's. `states` holds the number of channels of every hidden state by name.
    """

    convs: dict[str, TracedConv]
    scale: int
    states: dict[str, int]


@torch.no_grad()
def trace(network: nn.Module, frames_NTCHW: Tensor) -> Trace:
    """What a run of the network on a clip (1, T, 3, H, W) shows; T is at least 2.

    What a frame costs is what the whole clip costs more than one without its last frame. Raises UserError if the
    network does not return what `Network.forward` is to return.
    """
    length, height, width = frames_NTCHW.shape[1], *frames_NTCHW.shape[-2:]
    # Two lengths: the difference is the cost of one frame, without what a clip costs only once at its ends.
    whole, output = _run(network, frames_NTCHW)
    shorter, _ = _run(network, frames_NTCHW[:, : length - 1])
    frames, hidden = _checked(output, frames_NTCHW)
    convs = {}
    for name, calls in whole.items():
        pixels = calls.pixels - (shorter[name].pixels if name in shorter else 0)
        scale = calls.height / height
        times = pixels / (height * width * scale**2) if scale else 0
        module, shuffle = calls.module, (calls.shuffles or {1}).pop() if len(calls.shuffles) <= 1 else 1
        # A convolution that is fed by several others, or by something untracked, reads channels that cannot be cut.
        producer = calls.producers.pop() if len(calls.producers) == 1 else ""
        convs[name] = TracedConv(
            name=name,
            inputs=module.in_channels,
            units=module.out_channels // shuffle**2,
            kernel=module.kernel_size[0],
            filters_per_unit=shuffle**2,
            producer=producer,
            scale=int(scale) if scale == int(scale) else scale,
            # Not round(), which goes to the even number at a half.
            times=max(1, math.floor(times + 0.5)),
            opaque=", ".join(dict.fromkeys(calls.opaque)),
            gated=_same_padded(module) and (module.groups == 1 or _depthwise(module)),
            groups=module.groups,
        )
    return Trace(convs, frames.shape[-2] // height, {name: states[0].shape[1] for name, states in hidden.items()})


def _checked(output: Any, frames_NTCHW: Tensor) -> tuple[Tensor, Mapping[str, Any]]:
    try:
        frames, hidden = output
    except (TypeError, ValueError):
        raise UserError(
            f"forward must return VSROutput(frames_NTCHW, hidden states by branch); got {type(output).__name__}"
        ) from None
    if not isinstance(hidden, Mapping):
        raise UserError(f"forward must return hidden states by name, {{}} for none; got {type(hidden).__name__}")
    batch, length, _, height, width = frames_NTCHW.shape
    wanted = f"(N, T, 3, scale*H, scale*W) for frames {tuple(frames_NTCHW.shape)}"
    if (
        frames.ndim != 5
        or frames.shape[:3] != (batch, length, 3)
        or frames.shape[-2] % height
        or (frames.shape[-2] // height * width != frames.shape[-1])
    ):
        raise UserError(f"forward must return frames of {wanted}; got {tuple(frames.shape)}")
    for name, states in hidden.items():
        # A list, since the length of one tensor of all frames would be taken for the number of frames.
        if not isinstance(states, list | tuple):
            raise UserError(
                f"hidden state {name!r} must be a list, one tensor (N, C, H, W) per frame; got {type(states).__name__}"
            )
        if len(states) != length:
            raise UserError(f"hidden state {name!r} must be one tensor per frame, {length}; got {len(states)}")
        shapes = {tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__ for state in states}
        if len(shapes) > 1 or not all(isinstance(shape, tuple) and len(shape) == 4 for shape in shapes):
            found = ", ".join(sorted(map(str, shapes)))
            raise UserError(f"hidden state {name!r} must be tensors (N, C, H, W) of one shape; got {found}")
    return frames, hidden


def _same_padded(conv: nn.Conv2d) -> bool:
    kernel = conv.kernel_size[0]
    return (
        conv.kernel_size == (kernel, kernel)
        and conv.padding == (kernel // 2, kernel // 2)
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and conv.bias is not None
    )


def _depthwise(conv: nn.Conv2d) -> bool:
    return _same_padded(conv) and conv.groups == conv.in_channels == conv.out_channels


def _run(network: nn.Module, frames_NTCHW: Tensor) -> tuple[dict[str, _Calls], Any]:
    watcher = _Watcher()
    # The flow net is never pruned: its convolutions get no gates and no groups.
    convs = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and not name.startswith("flow_net.")
    ]
    with ExitStack() as stack:
        for name, module in convs:
            stack.enter_context(watcher.watching(name, module))
        with watcher:
            output = network(frames_NTCHW)
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        # The channels of the output are pixels, which are never cut.
        watcher.use(output[0], "the output")
    return dict(watcher.calls), output


class _Watcher(TorchFunctionMode):
    """Tags every tensor that holds the output channels of one convolution, and nothing else, with its name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, _Calls] = {}
        # Weak, so that tags do not hold all activations of a clip in memory; keyed by identity, since == of tensors
        # compares their elements.
        self._tags: Any = WeakTensorKeyDictionary()
        self._inside = 0

    @contextmanager
    def watching(self, name: str, module: nn.Conv2d) -> Iterator[None]:
        """Take note of the calls of a convolution."""

        def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            # What a convolution does inside, F.conv2d and padding, is no operation of the network on its input.
            self._inside += 1
            calls = self.calls.setdefault(name, _Calls(module))
            producer = self._tags.get(inputs[0], "")
            whole = module.groups > 1 and not _depthwise(module)
            calls.producers.add("" if whole else producer)
            if producer and whole:
                self.use(inputs[0], f"the grouped convolution {name}")

        def after(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self._inside -= 1
            calls = self.calls[name]
            calls.pixels += output.shape[0] * output.shape[-2] * output.shape[-1]
            calls.height = output.shape[-2]
            self._tags[output] = name

        handles = [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        yield
        for handle in handles:
            handle.remove()

    def use(self, tensor: Tensor, what: str) -> None:
        """A tensor goes into something that is not plain."""
        name = self._tags.get(tensor)
        if name:
            self.calls[name].opaque.append(what)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # What a convolution calls inside is its own affair; only what enters and leaves it counts.
        if not self._inside:
            self._note(getattr(func, "__name__", str(func)), args, kwargs or {}, result)
        return result

    def _note(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        tagged = [value for value in _tensors((*args, *kwargs.values())) if value in self._tags]
        # __get__ is how attributes such as shape and device are read.
        if not tagged or name in BLIND or name == "__get__":
            return
        producer = self._tags[tagged[0]]
        numbers = all(not isinstance(value, Tensor) for value in (*args[1:], *kwargs.values()))
        # A unit before a pixel shuffle is several filters, of which a depthwise convolution reads one channel each.
        if name == "pixel_shuffle" and self.calls[producer].module.groups == 1:
            factor = int(args[1] if len(args) > 1 else kwargs["upscale_factor"])
            self.calls[producer].shuffles.add(factor)
            self._tags[result] = producer
        elif (name in PLAIN or (name in SCALED and numbers)) and isinstance(result, Tensor) and len(tagged) == 1:
            self._tags[result] = producer
        else:
            for value in tagged:
                self.use(value, name)
                if result is value:  # changed in place
                    del self._tags[value]


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
