"""Modulated deformable convolution (Zhu et al., CVPR 2019) of PyTorch's own operations: every device, any groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsrprune.networks.parts.folding import Folded, Gated


class DeformableConv2d(nn.Conv2d):
    """A same-padded convolution whose kernel points are moved and weighted at every pixel.

    deformable_groups: input channels of one group share their offsets and masks.
    channel_groups: the group of each input channel; None for equal runs, the published networks' assignment. After a
    cut of input channels it is those that are left: groups may be unequal, empty or out of order.
    """

    bias: nn.Parameter
    order: Tensor | None

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        deformable_groups: int = 1,
        channel_groups: Sequence[int] | None = None,
    ) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        if channel_groups is None:
            if inputs % deformable_groups:
                raise ValueError(f"{inputs} channels do not divide into {deformable_groups} deformable groups")
            channel_groups = [channel * deformable_groups // inputs for channel in range(inputs)]
        if len(channel_groups) != inputs or not set(channel_groups) <= set(range(deformable_groups)):
            raise ValueError(
                f"channel_groups must be one of 0..{deformable_groups - 1} for each of {inputs} channels,"
                f" got {tuple(channel_groups)}"
            )
        self.deformable_groups, self.channel_groups = deformable_groups, tuple(channel_groups)
        self.group_sizes = [self.channel_groups.count(group) for group in range(deformable_groups)]
        # Channels of one group side by side, so that one split gives the input of each grid_sample.
        order = sorted(range(inputs), key=self.channel_groups.__getitem__)
        # Derived from the arguments, so it stays out of the state dict.
        self.register_buffer("order", None if order == list(range(inputs)) else torch.tensor(order), persistent=False)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve (N, in, H, W) to (N, out, H, W), sampling bilinearly, zeros outside.

        With G deformable groups and K = kernel*kernel points in reading order: offset (N, 2*G*K, H, W), in pixels, y
        before x for each point of each group; mask (N, G*K, H, W) multiplies what the point reads. That is the channel
        order of torchvision and mmcv.
        """
        return self.convolve(input, offset, mask, self.weight, self.bias)

    def convolve(self, input: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """`forward` with another weight (out, in, k, k) and bias (out,), such as ones with gates multiplied in."""
        if self.order is not None:
            input, weight = input.index_select(1, self.order), weight.index_select(1, self.order)
        groups = self.deformable_groups
        offset_NGK2HW = torch.unflatten(offset, 1, (groups, -1, 2))
        mask_NGKHW = torch.unflatten(mask, 1, (groups, -1)).to(input.dtype)
        columns = [
            _sample(channels, offset_NGK2HW[:, group], self.kernel_size) * mask_NGKHW[:, group].unsqueeze(1)
            for group, channels in enumerate(torch.split(input, self.group_sizes, dim=1))
            if self.group_sizes[group] > 0
        ]
        # One matrix product over channels and kernel points, written as a convolution so that it is counted as one.
        return F.conv2d(torch.cat(columns, dim=1).flatten(1, 2), weight.flatten(1)[..., None, None], bias)


class GatedDeformableConv2d(DeformableConv2d, Gated):
    """A deformable convolution whose output channels carry scaling factors, as GatedConv2d's do."""

    input_gate = None

    def __init__(self, conv: DeformableConv2d) -> None:
        inputs, outputs = conv.in_channels, conv.out_channels
        super().__init__(inputs, outputs, conv.kernel_size[0], conv.deformable_groups, conv.channel_groups)
        self.gate = nn.Parameter(torch.ones(outputs))
        # Not strict: the gates keep their ones.
        self.to(conv.weight).load_state_dict({"weight": conv.weight, "bias": conv.bias}, strict=False)

    def folded(self) -> Folded:
        """Weight (out, in, k, k) and bias (out,) with the gates multiplied in."""
        return self.weight * self.gate.view(-1, 1, 1, 1), self.bias * self.gate

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """As without gates."""
        return self.convolve(input, offset, mask, *self.present())


class GuidedDeformableConv2d(nn.Module):
    """A deformable convolution whose offsets and masks a convolution reads from other features (EDVR's DCN pack).

    That convolution starts at zero: no offsets, and masks of one half.
    """

    def __init__(self, channels: int, kernel: int = 3, deformable_groups: int = 1) -> None:
        super().__init__()
        points = deformable_groups * kernel**2
        self.conv_offset = zero_init(nn.Conv2d(channels, 3 * points, kernel, padding=kernel // 2))
        self.deform = DeformableConv2d(channels, channels, kernel, deformable_groups)

    def forward(self, input_NCHW: Tensor, guide_NCHW: Tensor) -> Tensor:
        """Convolve (N, C, H, W) to the same shape, led by features of that shape."""
        offset, mask = offset_and_mask(self.conv_offset(guide_NCHW))
        output_NCHW: Tensor = self.deform(input_NCHW, offset, mask)
        return output_NCHW


def offset_and_mask(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets (N, 2*G*K, H, W) and masks (N, G*K, H, W) in [0, 1] from a convolution's (N, 3*G*K, H, W)."""
    points = raw.shape[1] // 3
    return raw[:, : 2 * points], raw[:, 2 * points :].sigmoid()


def zero_init(conv: nn.Conv2d) -> nn.Conv2d:
    """`conv` itself with weight and bias at zero."""
    assert conv.bias is not None
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


def _sample(input_NCHW: Tensor, offset_NK2HW: Tensor, kernel: Sequence[int]) -> Tensor:
    """What the K points of a kernel read around each pixel: (N, C, K, H, W)."""
    height, width = input_NCHW.shape[-2:]
    # A position needs float32 at least, like a warp's: sixteen bits are off by pixels on a wide frame.
    dtype = torch.promote_types(offset_NK2HW.dtype, torch.float32)

    def steps(start: int, count: int, *shape: int) -> Tensor:
        return torch.arange(start, start + count, dtype=dtype, device=offset_NK2HW.device).view(shape)

    tall, wide = kernel
    point_y = steps(-(tall // 2), tall, -1, 1).expand(tall, wide).reshape(-1, 1, 1)
    point_x = steps(-(wide // 2), wide, 1, -1).expand(tall, wide).reshape(-1, 1, 1)
    y_NKHW = offset_NK2HW[:, :, 0] + point_y + steps(0, height, -1, 1)
    x_NKHW = offset_NK2HW[:, :, 1] + point_x + steps(0, width, 1, -1)
    # Corners are not aligned: with aligned ones, every position on a frame one pixel wide would read that pixel.
    grid = torch.stack(((2 * x_NKHW + 1) / width - 1, (2 * y_NKHW + 1) / height - 1), dim=-1)
    sampled = F.grid_sample(
        input_NCHW.to(dtype), grid.flatten(1, 2), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return torch.unflatten(sampled, 2, (tall * wide, height)).to(input_NCHW.dtype)
