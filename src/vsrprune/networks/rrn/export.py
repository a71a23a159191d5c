"""RRN's step as a graph, with the names of a unidirectional BasicVSR's."""

from __future__ import annotations

from torch import Tensor, nn

from vsrprune.networks.graph import FRAME, Division, Graph, Shape, clip_graph, enlarged, step_inputs
from vsrprune.networks.rrn.network import RRN


def divide(network: RRN, frames: int) -> Division:
    """One recurrent step, beside the clip."""
    state: Shape = (1, network.state_width, "height", "width")
    outputs = {"upscaled_frame": enlarged(FRAME, network.arguments.scale), "state": state}
    return Division(clip_graph(network, frames), {"step": Graph(RRNStep(network), step_inputs(state), outputs)})


class RRNStep(nn.Module):
    """An RRN's whole work on a frame: its own step, in which the state holds the last output too."""

    def __init__(self, network: RRN) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, frame_NCHW: Tensor, previous_frame_NCHW: Tensor, previous_state_NCHW: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The super-resolved frame (N, 3, scale*H, scale*W), not clipped, and the new state (N, state_width, H, W)."""
        return self.network.step(frame_NCHW, previous_frame_NCHW, previous_state_NCHW)
