"""Stage 5: train the compact network while its hidden states are held to those of the dense one."""

from __future__ import annotations

from torch import Tensor

from vsrprune.data.sampling import Batch
from vsrprune.models.basicvsr import BasicVSR, Flows
from vsrprune.pruning.losses import charbonnier, temporal_loss
from vsrprune.stages.training import TrainingStage


class Finetune(TrainingStage):
    """L_rec + tf_weight * L_tf (Temporal Finetuning, arXiv 2206.07687 section 3.5).

    teacher: the frozen dense network, or None where tf_weight is 0: then it is neither loaded nor run. With
    `train_flow` off, the flows are computed once and serve both networks.
    """

    stage = "finetune"

    def __init__(
        self,
        network: BasicVSR,
        teacher: BasicVSR | None,
        *,
        tf_weight: float,
        train_flow: bool,
        steps: int,
        lr: float,
        shape: str,
    ) -> None:
        super().__init__(network, steps, lr, shape)
        self.network.flow_net.requires_grad_(train_flow)
        self._train_flow, self._tf_weight = train_flow, tf_weight
        # In a tuple the teacher is no submodule: it stays out of checkpoints and of the optimiser.
        self._teacher = () if teacher is None else (teacher.eval().requires_grad_(False),)

    def on_fit_start(self) -> None:
        """Bring the teacher to the student's device."""
        for teacher in self._teacher:
            teacher.to(self.device)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec and, with a teacher, tf_weight * L_tf."""
        flows: Flows | None = None if self._train_flow else self.network.flows(batch.low_NTCHW)
        output = self.network(batch.low_NTCHW, flows)
        losses = {"reconstruction": charbonnier(output.frames_NTCHW, batch.high_NTCHW)}
        for teacher in self._teacher:
            target = teacher.hidden_states(batch.low_NTCHW, flows)
            kept = {branch: self.network.stream_channels(branch) for branch in target}
            losses["temporal"] = self._tf_weight * temporal_loss(output.hidden, target, kept)
        return losses
