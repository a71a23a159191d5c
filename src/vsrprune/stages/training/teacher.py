"""A frozen network as a teacher: losses that hold a student's hidden states and outputs to its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vsrprune.data.sampling import Batch
from vsrprune.networks.network import Flows, Network, VSROutput
from vsrprune.networks.parts.folding import folded_once
from vsrprune.pruning.losses import charbonnier, temporal_loss

Adapt = Callable[[str, Tensor], Tensor]  # branch, hidden state of the student -> in the teacher's channels


class Teacher:
    """The dense network, or the one that the student was cut out of, and the weights of the losses that hold to it.

    `tf_weight` is the weight of L_tf (Temporal Finetuning, arXiv 2206.07687, section 3.5), `output_weight` that of the
    Charbonnier distance between the outputs, and `unlabelled_weight` that of the same distance on the clips of a batch
    that have no truth, for which it stands in. A loss whose weight is 0 costs nothing: the teacher's upsampler runs
    only where its outputs are compared.
    """

    def __init__(
        self, network: Network, tf_weight: float, output_weight: float, unlabelled_weight: float = 0.0
    ) -> None:
        # No module of the student's stage: it stays out of checkpoints and of the optimiser.
        self._network = network.eval().requires_grad_(False)
        self.tf_weight, self._output_weight, self._unlabelled_weight = tf_weight, output_weight, unlabelled_weight
        self._indices: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}

    def to(self, device: torch.device, memory_format: torch.memory_format) -> None:
        """Follow the student to its device, and lie in memory in this format there."""
        self._network.to(device).to(memory_format=memory_format)  # type: ignore[call-overload]

    def losses(
        self,
        batch: Batch,
        flows: Flows | None,
        student: Network,
        output: VSROutput,
        adapt: Adapt | None = None,
    ) -> dict[str, Tensor]:
        """The weighted losses by name. adapt: for a student of another width; else the channels it has are compared."""
        frames_NTCHW, labelled = batch.low_NTCHW, len(batch.high_NTCHW)
        stands_in = self._unlabelled_weight > 0 and len(frames_NTCHW) > labelled
        with torch.no_grad(), folded_once(self._network):
            target = self._network(frames_NTCHW, flows) if self._output_weight or stands_in else None
            hidden = target.hidden if target else self._network.hidden_states(frames_NTCHW, flows)
        losses = {}
        if target and stands_in:
            distance = charbonnier(output.frames_NTCHW[labelled:], target.frames_NTCHW[labelled:])
            losses["unlabelled"] = self._unlabelled_weight * distance
        if self.tf_weight:
            states, device = output.hidden, frames_NTCHW.device
            kept = {branch: self._index(student.stream_channels(branch), device) for branch in hidden}
            if adapt is not None:
                states = {branch: [adapt(branch, state) for state in row] for branch, row in states.items()}
                kept = dict.fromkeys(states, None)
            losses["temporal"] = self.tf_weight * temporal_loss(states, hidden, kept)
        if target and self._output_weight:
            losses["output"] = self._output_weight * charbonnier(output.frames_NTCHW, target.frames_NTCHW)
        return losses

    def _index(self, channels: tuple[int, ...] | None, device: torch.device) -> Tensor | None:
        """The channels as an index, made once: one made at every step would be a copy to the device, and a wait."""
        if channels is None:
            return None
        if (channels, device) not in self._indices:
            self._indices[channels, device] = torch.tensor(channels, device=device)
        return self._indices[channels, device]
