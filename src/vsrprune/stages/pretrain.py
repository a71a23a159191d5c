"""Stage 0: train the dense network with its gates."""

from __future__ import annotations

from torch import Tensor

from vsrprune.data.sampling import Batch
from vsrprune.pruning.losses import charbonnier
from vsrprune.stages.training import TrainingStage


class Pretrain(TrainingStage):
    """Reconstruction alone (Charbonnier)."""

    stage = "pretrain"

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """L_rec."""
        return {"reconstruction": charbonnier(self.network(batch.low_NTCHW).frames_NTCHW, batch.high_NTCHW)}
