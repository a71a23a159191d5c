"""Train the flow net alone, on how well neighbours that are warped by its flows show the frame."""

from __future__ import annotations

from torch import Tensor

from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Network
from vsrprune.stages.flow.photometric import photometric_error
from vsrprune.stages.training.module import TrainingStage


class FlowTraining(TrainingStage):
    """The photometric error at low resolution; no other weight of the network moves."""

    stage = "flow"

    def __init__(self, network: Network, steps: int, lr: float, shape: str) -> None:
        super().__init__(network, steps, lr, shape)
        # Data-parallel training waits for a gradient of every weight that asks for one.
        network.requires_grad_(False)
        network.train_flow(True)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The photometric error of both directions."""
        assert self.network.flow_net is not None, "a network without one has no such stage"
        return {"photometric": photometric_error(self.network.flow_net, batch.low_NTCHW)}
