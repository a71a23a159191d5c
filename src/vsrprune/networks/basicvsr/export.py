"""BasicVSR's recurrence, one frame at a time, as graphs for whoever keeps the state.

The first frame of a clip is its own previous frame, and its previous state is zero: the warp of zeros is zero whatever
the flow, so no step is special. The state of a cell that reads two frames holds more than the hidden state: its memory.
"""

from __future__ import annotations

from torch import Tensor, nn

from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import trunk
from vsrprune.networks.graph import FRAME, Division, Graph, Shape, clip_graph, enlarged, step_inputs


def divide(network: BasicVSR, frames: int) -> Division:
    """One recurrent step: `step` of a unidirectional network; else `<branch>_step` of both, and `upsampler`."""
    upscaled = {"upscaled_frame": enlarged(FRAME, network.arguments.scale)}
    states: dict[str, Shape] = {
        branch: (1, int(network.get_submodule(trunk(branch)).memory_width), "height", "width")  # type: ignore[arg-type]
        for branch in network.arguments.branches
    }
    clip, graphs = clip_graph(network, frames), {}
    for branch, state in states.items():
        inputs = step_inputs(state)
        if not network.arguments.bidirectional:
            return Division(clip, {"step": Graph(OnlineStep(network), inputs, {**upscaled, "state": state})})
        graphs[f"{branch}_step"] = Graph(Step(network, branch), inputs, {"state": state})
    inputs = {"frame": FRAME, **{f"{branch}_state": state for branch, state in states.items()}}
    return Division(clip, {**graphs, "upsampler": Graph(UpsamplerStep(network), inputs, upscaled, starred=True)})


class Step(nn.Module):
    """One step of a branch: flow, warp and residual blocks."""

    def __init__(self, network: BasicVSR, branch: str) -> None:
        super().__init__()
        self.flow_net, self.trunk = network.flow_net, network.get_submodule(trunk(branch))

    def forward(self, frame_NCHW: Tensor, previous_frame_NCHW: Tensor, previous_state_NCHW: Tensor) -> Tensor:
        """State (N, C, H, W) of a frame (N, 3, H, W); previous is what the branch saw before: later if it goes back."""
        flow_N2HW = self.flow_net(frame_NCHW, previous_frame_NCHW)
        state_NCHW: Tensor = self.trunk.step(frame_NCHW, previous_state_NCHW, flow_N2HW)  # type: ignore[operator]
        return state_NCHW


class UpsamplerStep(nn.Module):
    """A frame from the states of all branches."""

    def __init__(self, network: BasicVSR) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame_NCHW: Tensor, *states_NCHW: Tensor) -> Tensor:
        """Super-resolve a frame (N, 3, H, W) to (N, 3, scale*H, scale*W), not clipped."""
        return self.network.upsample(self.network.hidden(states_NCHW), frame_NCHW)


class OnlineStep(nn.Module):
    """A unidirectional network's whole work on a frame."""

    def __init__(self, network: BasicVSR) -> None:
        super().__init__()
        (branch,) = network.arguments.branches
        self.step, self.upsampler = Step(network, branch), UpsamplerStep(network)

    def forward(
        self, frame_NCHW: Tensor, previous_frame_NCHW: Tensor, previous_state_NCHW: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The super-resolved frame (N, 3, scale*H, scale*W), not clipped, and the new state (N, C, H, W)."""
        state_NCHW = self.step(frame_NCHW, previous_frame_NCHW, previous_state_NCHW)
        return self.upsampler(frame_NCHW, state_NCHW), state_NCHW
