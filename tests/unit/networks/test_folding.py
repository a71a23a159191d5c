"""Gates are folded once for a call of a network: same numbers, same gradients, and never an old weight."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from typing import Any

import pytest
import torch
from networks_made import random_clip, random_network, randomise, small_basicvsr, small_basicvsr_pp, small_edvr
from torch import Tensor, nn

from vsrprune.data.sampling import Batch
from vsrprune.networks.edsr_rcan.spec import EDSRArguments
from vsrprune.networks.network import Network
from vsrprune.networks.own import Declaration, OwnNetwork, VSROutput
from vsrprune.networks.parts.folding import Gated, folded_once
from vsrprune.networks.parts.layers import GatedConv2d
from vsrprune.networks.rrn.spec import RRNArguments
from vsrprune.stages.training.teacher import Teacher

FRAMES = 3
FAMILIES = {
    "basicvsr": small_basicvsr(),
    "basicvsr_pp": small_basicvsr_pp(),
    "edvr": small_edvr(),
    "rrn": RRNArguments(channels=4, blocks=2),
    "edsr": EDSRArguments(channels=4, blocks=2),
}


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> Counter[Gated]:
    """How often each convolution multiplied its gates in."""
    counted: Counter[Gated] = Counter()
    present, folded = Gated.present, GatedConv2d.folded

    def counting(conv: GatedConv2d) -> Any:
        counted[conv] += 1
        return folded(conv)

    monkeypatch.setattr(GatedConv2d, "folded", counting)
    assert Gated.present is present
    return counted


class PerFrame(nn.Module):
    """The network as it was when every call of a convolution folded its gates: the independent implementation."""

    def __init__(self, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.network, self.patch = network, monkeypatch

    def forward(self, clip: Tensor) -> Tensor:
        with self.patch.context() as patch:
            patch.setattr(Gated, "present", lambda conv: conv.folded())
            output: Tensor = self.network(clip).frames_NTCHW
        return output


def gradients(network: nn.Module) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    network.zero_grad()
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_are_the_same_bits_and_gradients_the_same_sums(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, clip = random_network(FAMILIES[family]), random_clip(FRAMES, 8, 12)
    output = network(clip).frames_NTCHW
    output.square().mean().backward()
    found = gradients(network)
    expected_output = PerFrame(network, monkeypatch)(clip)
    expected_output.square().mean().backward()
    expected = gradients(network)
    assert torch.equal(output, expected_output)
    assert found.keys() == expected.keys()
    assert sum(name.endswith("gate") for name in found) > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12 * float(gradient.abs().max()) + 1e-18)


def test_each_convolution_folds_once_however_many_frames_there_are(folds: Counter[Gated]) -> None:
    network = random_network(small_basicvsr())
    gated = [module for module in network.modules() if isinstance(module, Gated)]
    network(random_clip(FRAMES))
    assert folds == dict.fromkeys(gated, 1)
    network.hidden_states(random_clip(FRAMES))  # not a call of the network: each frame folds
    assert max(folds.values()) == 1 + FRAMES


def test_a_teacher_folds_once_though_it_is_asked_for_its_states_alone(folds: Counter[Gated]) -> None:
    dense, student = (random_network(small_basicvsr(), seed) for seed in (0, 1))
    output, clip = student(random_clip(FRAMES)), random_clip(FRAMES)
    folds.clear()
    Teacher(dense, 1.0, 0.0).losses(Batch(clip, clip[:0]), None, student, output)
    assert set(folds.values()) == {1}


def test_checkpointed_frames_are_computed_again_from_the_same_weights(folds: Counter[Gated]) -> None:
    network, clip = random_network(small_basicvsr()), random_clip(FRAMES)
    network(clip).frames_NTCHW.square().mean().backward()
    expected = gradients(network)
    folds.clear()
    network.checkpoint_frames = True
    loss = network(clip).frames_NTCHW.square().mean()
    assert set(folds.values()) == {1}
    with torch.no_grad():
        network(random_clip(FRAMES + 1))  # another call before the backward pass
    folds.clear()
    loss.backward()
    assert not folds
    assert all(torch.equal(gradient, expected[name]) for name, gradient in gradients(network).items())


def test_weights_that_changed_between_two_calls_are_never_old() -> None:
    network, clip = random_network(small_basicvsr()), random_clip(FRAMES)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(2):
        network(clip).frames_NTCHW.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        fresh = random_network(small_basicvsr(), seed=5)
        fresh.load_state_dict(network.state_dict())
        assert torch.equal(network(clip).frames_NTCHW, fresh(clip).frames_NTCHW)


def test_an_error_in_the_middle_of_a_call_leaves_no_weights_behind() -> None:
    network, clip = random_network(small_basicvsr()), random_clip(FRAMES)
    handle = network.get_submodule("conv_last").register_forward_hook(_fail)
    with pytest.raises(KeyboardInterrupt):
        network(clip)
    handle.remove()
    randomise(network, seed=7)
    other = random_network(small_basicvsr(), seed=7)
    first = network.get_submodule("forward_trunk.first")
    assert isinstance(first, GatedConv2d)
    assert all(torch.equal(*pair) for pair in zip(first.present(), first.folded(), strict=True))
    assert torch.equal(network(clip).frames_NTCHW, other(clip).frames_NTCHW)


def _fail(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_call_without_gradients_leaves_them_to_the_next() -> None:
    network, clip = random_network(small_basicvsr()), random_clip(FRAMES)
    with torch.no_grad():
        network(clip)
    with torch.inference_mode():
        network(clip)
    network.eval()(clip).frames_NTCHW.sum().backward()
    assert all(gate.grad is not None for gate in network.gate_parameters())


def test_copies_and_pickles_made_within_a_call_hold_no_folded_weights() -> None:
    network, clip, seen = random_network(small_basicvsr()), random_clip(FRAMES), []
    names = set(network.state_dict())

    def copied(*_: Any) -> None:
        trunk = network.get_submodule("forward_trunk")
        seen.extend((copy.deepcopy(network), pickle.loads(pickle.dumps(trunk))))

    handle = network.get_submodule("fusion").register_forward_hook(copied)
    expected = network(clip).frames_NTCHW
    handle.remove()
    assert set(network.state_dict()) == set(seen[0].state_dict()) == names
    assert set(seen[1].state_dict()) == {name[14:] for name in names if name.startswith("forward_trunk.")}
    other = seen[0]
    other.get_submodule("fusion")._forward_hooks.clear()
    randomise(other, seed=3)
    assert torch.equal(other(clip).frames_NTCHW, random_network(small_basicvsr(), seed=3)(clip).frames_NTCHW)
    assert torch.equal(network(clip).frames_NTCHW, expected)


def test_two_networks_do_not_share_what_is_folded() -> None:
    first, second = (random_network(small_basicvsr(), seed) for seed in (0, 1))
    clip = random_clip(FRAMES)
    expected = second(clip).frames_NTCHW
    with folded_once(first):
        assert torch.equal(second(clip).frames_NTCHW, expected)


def test_under_autocast_a_folded_weight_is_cast_once() -> None:
    network, clip = random_network(small_basicvsr(), dtype=torch.float32), random_clip(FRAMES, dtype=torch.float32)
    convs = [module for module in network.modules() if isinstance(module, Gated)]
    with torch.autocast("cpu", torch.bfloat16), folded_once(network):
        assert {value.dtype for conv in convs for value in conv.present()} == {torch.bfloat16}
        with torch.autocast("cpu", enabled=False):  # a network's own code may leave it
            assert {value.dtype for conv in convs for value in conv.present()} == {torch.float32}
        network(clip).frames_NTCHW.float().mean().backward()
    assert all(gate.grad is not None and gate.grad.dtype == torch.float32 for gate in network.gate_parameters())


@pytest.mark.long
@pytest.mark.parametrize("checkpoint_frames", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_compiled_network_is_one_graph(checkpoint_frames: bool) -> None:
    network, clip = random_network(small_basicvsr(bidirectional=False, blocks=1)), random_clip(2)
    network.checkpoint_frames = checkpoint_frames
    network(clip).frames_NTCHW.square().mean().backward()
    expected = gradients(network)
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    compiled(clip).frames_NTCHW.square().mean().backward()
    found = gradients(network)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-15)


class Looped(OwnNetwork):
    """A network of one's own that calls one convolution for every frame."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, frames_NTCHW: Tensor, flows: Any = None) -> VSROutput:
        frames = [self.last(torch.relu(self.first(frame))) for frame in frames_NTCHW.unbind(1)]
        return VSROutput(torch.stack(frames, dim=1), {})

    def channel_groups(self, rule: str) -> Declaration:
        return Declaration(rule)


def test_a_network_of_ones_own_folds_once_too(folds: Counter[Gated]) -> None:
    network = Looped().prepare()
    clip = random_clip(FRAMES, dtype=torch.float32)
    folds.clear()
    network(clip).frames_NTCHW.mean().backward()
    assert set(folds.values()) == {1}
    assert all(gate.grad is not None and bool(gate.grad.any()) for gate in network.gate_parameters())
