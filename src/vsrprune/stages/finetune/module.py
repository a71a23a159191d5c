"""Stage 5: train the compact network while its hidden states are held to those of a whole one."""

from __future__ import annotations

from torch import Tensor

from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Flows, Network
from vsrprune.stages.training.module import TrainingStage, reconstruction
from vsrprune.stages.training.teacher import Teacher


class Finetune(TrainingStage):
    """L_rec and, with a teacher, its losses: tf_weight * L_tf (Temporal Finetuning) and distillation of the outputs.

    With `train_flow` off, the flows are computed once and serve both networks, unless the flow net was pruned too.
    """

    stage = "finetune"

    def __init__(
        self, network: Network, teacher: Teacher | None, *, train_flow: bool, steps: int, lr: float, shape: str
    ) -> None:
        super().__init__(network, steps, lr, shape, teacher)
        self.network.train_flow(train_flow)
        self._shares_flows = not (train_flow or network.arguments.prunes_flow)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec and what the teacher adds."""
        # Frozen flows are the same for student and teacher; a trained flow net needs its gradient inside the student.
        flows: Flows | None = self.network.flows(batch.low_NTCHW) if self._shares_flows else None
        output = self.network(batch.low_NTCHW, flows)
        losses = reconstruction(batch, output)
        return losses | (self.teacher.losses(batch, flows, self.network, output) if self.teacher else {})
