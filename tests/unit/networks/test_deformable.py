"""Deformable convolution: values by hand, a scalar reference, and what deployment and counting need of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vsrprune.networks.parts.deformable import DeformableConv2d, GuidedDeformableConv2d

GROUPINGS = pytest.mark.parametrize(
    "channel_groups",
    [None, (0, 0, 0, 1, 2, 2), (0, 2, 2, 2, 2, 2), (2, 0, 1, 1, 0, 2), (1, 1, 1, 1, 1, 1)],
    ids=["equal runs", "unequal", "an empty one", "out of order", "only one"],
)


def layer(inputs: int = 6, outputs: int = 4, kernel: int = 3, groups: int = 3, channel_groups=None) -> DeformableConv2d:
    conv = DeformableConv2d(inputs, outputs, kernel, groups, channel_groups).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return conv


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def idle(conv: DeformableConv2d, input_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """No offsets, and masks of one."""
    batch, _, height, width = input_NCHW.shape
    points = conv.deformable_groups * math.prod(conv.kernel_size)
    return input_NCHW.new_zeros(batch, 2 * points, height, width), input_NCHW.new_ones(batch, points, height, width)


def read(channel: np.ndarray, y: float, x: float) -> float:
    """Bilinear, zeros outside."""
    height, width = channel.shape
    top, left = math.floor(y), math.floor(x)
    value = 0.0
    for row, weight_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, weight_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= row < height and 0 <= column < width:
                value += weight_y * weight_x * channel[row, column]
    return value


def reference(conv: DeformableConv2d, *tensors: torch.Tensor) -> np.ndarray:
    """One number at a time, from the definition."""
    input_NCHW, offset, mask = (tensor.numpy() for tensor in tensors)
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    kernel = weight.shape[-1]
    batch, inputs, height, width = input_NCHW.shape
    output = np.zeros((batch, len(bias), height, width)) + bias[:, None, None]
    for n, y, x, c, i, j in np.ndindex(batch, height, width, inputs, kernel, kernel):
        point = conv.channel_groups[c] * kernel**2 + i * kernel + j
        at_y = y + i - kernel // 2 + offset[n, 2 * point, y, x]
        at_x = x + j - kernel // 2 + offset[n, 2 * point + 1, y, x]
        output[n, :, y, x] += weight[:, c, i, j] * mask[n, point, y, x] * read(input_NCHW[n, c], at_y, at_x)
    return output


@GROUPINGS
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_without_offsets_it_is_a_convolution(kernel: int, channel_groups: tuple[int, ...] | None) -> None:
    conv = layer(kernel=kernel, channel_groups=channel_groups)
    input_NCHW = noise(2, 6, 5, 7)
    with torch.no_grad():
        output_NCHW = conv(input_NCHW, *idle(conv, input_NCHW))
        expected_NCHW = F.conv2d(input_NCHW, conv.weight, conv.bias, padding=kernel // 2)
    torch.testing.assert_close(output_NCHW, expected_NCHW, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 1), (-1, 2), (3, -2), (50, 0), (0, -50)])
def test_whole_offsets_move_the_frame_that_is_read(down: int, right: int) -> None:
    conv = layer()
    input_NCHW = noise(1, 6, 5, 7)
    offset, mask = idle(conv, input_NCHW)
    offset[:, 0::2], offset[:, 1::2] = down, right
    reach = 51  # zeros on all sides, from which the moved frame is cut
    padded_NCHW = F.pad(input_NCHW, (reach,) * 4)
    moved_NCHW = padded_NCHW[..., reach - 1 + down : reach + 6 + down, reach - 1 + right : reach + 8 + right]
    with torch.no_grad():
        output_NCHW = conv(input_NCHW, offset, mask)
        expected_NCHW = F.conv2d(moved_NCHW, conv.weight, conv.bias)
    torch.testing.assert_close(output_NCHW, expected_NCHW, rtol=0, atol=1e-12)


def test_half_a_pixel_reads_the_mean_and_fades_out_at_the_border() -> None:
    conv = DeformableConv2d(1, 1, kernel=1).double()
    row = torch.tensor([[1.0, 3.0, 8.0]], dtype=torch.float64).view(1, 1, 1, 3)
    offset, mask = idle(conv, row)
    offset[:, 1] = 0.5
    with torch.no_grad():
        conv.weight.fill_(1.0)
        assert conv(row, offset, mask).flatten().tolist() == pytest.approx([2.0, 5.5, 4.0], abs=1e-12)
        assert conv(row, -offset, mask).flatten().tolist() == pytest.approx([0.5, 2.0, 5.5], abs=1e-12)
        column = row.transpose(2, 3)
        down = offset.flip(1).transpose(2, 3)
        assert conv(column, down, mask.transpose(2, 3)).flatten().tolist() == pytest.approx([2.0, 5.5, 4.0], abs=1e-12)


def test_each_point_of_a_kernel_has_its_own_offset() -> None:
    """Point 5 (middle row, right) of group 1 alone is moved, one row down."""
    conv = layer(inputs=2, outputs=1, groups=2)
    input_NCHW = noise(1, 2, 4, 4)
    offset, mask = idle(conv, input_NCHW)
    with torch.no_grad():
        before = conv(input_NCHW, offset, mask)
        offset[:, 2 * (9 + 5)] = 1.0
        change = (conv(input_NCHW, offset, mask) - before)[0, 0, 1, 1]
        expected = conv.weight[0, 1, 1, 2] * (input_NCHW[0, 1, 2, 2] - input_NCHW[0, 1, 1, 2])
    assert change.item() == pytest.approx(expected.item(), abs=1e-12)


@GROUPINGS
@pytest.mark.parametrize("size", [(4, 5), (1, 6), (6, 1), (1, 1)], ids=str)
def test_scalar_reference(size: tuple[int, int], channel_groups: tuple[int, ...] | None) -> None:
    conv = layer(channel_groups=channel_groups)
    tensors = noise(2, 6, *size), 1.5 * noise(2, 54, *size, seed=2), noise(2, 27, *size, seed=3)
    with torch.no_grad():
        output = conv(*tensors).numpy()
    np.testing.assert_allclose(output, reference(conv, *tensors), rtol=0, atol=1e-12)


def test_scalar_reference_of_a_larger_kernel() -> None:
    conv = layer(inputs=2, outputs=3, kernel=5, groups=2)
    tensors = noise(1, 2, 4, 5), noise(1, 100, 4, 5, seed=2), noise(1, 50, 4, 5, seed=3)
    with torch.no_grad():
        output = conv(*tensors).numpy()
    np.testing.assert_allclose(output, reference(conv, *tensors), rtol=0, atol=1e-12)


def test_masks_scale_their_own_group() -> None:
    conv = layer()
    input_NCHW = noise(1, 6, 4, 5)
    offset, mask = idle(conv, input_NCHW)
    mask[:, :9], mask[:, 9:18], mask[:, 18:] = 0.5, 0.0, 3.0
    scale = torch.tensor([0.5, 0.5, 0.0, 0.0, 3.0, 3.0], dtype=torch.float64).view(1, 6, 1, 1)
    with torch.no_grad():
        output_NCHW = conv(input_NCHW, offset, mask)
        expected_NCHW = F.conv2d(input_NCHW * scale, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(output_NCHW, expected_NCHW, rtol=0, atol=1e-12)


def test_the_channels_left_by_a_cut_give_what_zeros_in_the_others_give() -> None:
    conv = layer()
    kept = [0, 3, 4, 5]
    small = DeformableConv2d(4, 4, 3, 3, [conv.channel_groups[channel] for channel in kept]).double()
    input_NCHW, offset, mask = noise(2, 6, 4, 5), noise(2, 54, 4, 5, seed=2), noise(2, 27, 4, 5, seed=3)
    silent_NCHW = torch.zeros_like(input_NCHW).index_copy(1, torch.tensor(kept), input_NCHW[:, kept])
    with torch.no_grad():
        small.weight.copy_(conv.weight[:, kept])
        small.bias.copy_(conv.bias)
        torch.testing.assert_close(
            small(input_NCHW[:, kept], offset, mask), conv(silent_NCHW, offset, mask), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("channel_groups", [(0, 1), (1, 0), (1, 1)], ids=str)
def test_gradients(channel_groups: tuple[int, ...]) -> None:
    conv = layer(inputs=2, outputs=2, groups=2, channel_groups=channel_groups)
    tensors = noise(1, 2, 3, 2), 0.3 * noise(1, 36, 3, 2, seed=2), noise(1, 18, 3, 2, seed=3), conv.weight, conv.bias
    inputs = [tensor.detach().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(conv.convolve, inputs)


def test_positions_stay_exact_in_sixteen_bits() -> None:
    """Column 257 has no neighbour at distance one in bfloat16."""
    conv = DeformableConv2d(1, 1, kernel=1).bfloat16()
    columns = torch.arange(300).fmod(7).view(1, 1, 1, 300).bfloat16()
    offset, mask = idle(conv, columns)
    offset[:, 1] = 1.0
    with torch.no_grad():
        conv.weight.fill_(1.0)
        output = conv(columns, offset, mask)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output[..., :-1], columns[..., 1:], rtol=0, atol=1e-4)


@GROUPINGS
def test_weight_products_are_counted_without_computing(channel_groups: tuple[int, ...] | None) -> None:
    conv = layer(channel_groups=channel_groups).to("meta")
    input_NCHW = torch.empty(1, 6, 18, 32, device="meta", dtype=torch.float64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert conv(input_NCHW, *idle(conv, input_NCHW)).shape == (1, 4, 18, 32)
    assert counter.get_total_flops() == 2 * 9 * 6 * 4 * 18 * 32


@GROUPINGS
def test_one_exported_graph_serves_every_size(channel_groups: tuple[int, ...] | None) -> None:
    conv = layer(channel_groups=channel_groups).eval()

    def example(height: int, width: int) -> tuple[torch.Tensor, ...]:
        return noise(1, 6, height, width), noise(1, 54, height, width, seed=2), noise(1, 27, height, width, seed=3)

    sides = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    program = torch.export.export(conv, example(5, 7), dynamic_shapes=(sides, sides, sides))
    with torch.no_grad():
        for size in ((5, 7), (9, 4)):
            torch.testing.assert_close(program.module()(*example(*size)), conv(*example(*size)))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((6, 4, 3, 4), "6 channels do not divide into 4 deformable groups"),
        ((3, 4, 3, 2, (0, 1)), r"one of 0\.\.1 for each of 3 channels, got \(0, 1\)"),
        ((2, 4, 3, 2, (0, 2)), r"got \(0, 2\)"),
    ],
)
def test_groups_that_fit_no_channels_are_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DeformableConv2d(*arguments)


def test_state_dict_holds_weight_and_bias_alone() -> None:
    assert list(layer(channel_groups=(2, 0, 1, 1, 0, 2)).state_dict()) == ["weight", "bias"]


def test_guided_convolution_starts_as_half_a_convolution() -> None:
    conv = GuidedDeformableConv2d(4, deformable_groups=2).double()
    input_NCHW, guide_NCHW = noise(2, 4, 5, 6), noise(2, 4, 5, 6, seed=2)
    expected_NCHW = F.conv2d(input_NCHW, conv.deform.weight / 2, padding=1)
    torch.testing.assert_close(conv(input_NCHW, guide_NCHW), expected_NCHW, rtol=0, atol=1e-12)
    assert {name: tuple(value.shape) for name, value in conv.state_dict().items()} == {
        "conv_offset.weight": (54, 4, 3, 3),
        "conv_offset.bias": (54,),
        "deform.weight": (4, 4, 3, 3),
        "deform.bias": (4,),
    }


def test_guide_sets_offsets_before_masks() -> None:
    """36 offsets first, y before x, then 18 masks: here one pixel to the right, masks of sigmoid(log 3) = 3/4."""
    conv = GuidedDeformableConv2d(4, deformable_groups=2).double()
    input_NCHW = noise(1, 4, 5, 6)
    with torch.no_grad():
        conv.conv_offset.bias[1:36:2] = 1.0
        conv.conv_offset.bias[36:] = math.log(3)
        output_NCHW = conv(input_NCHW, noise(1, 4, 5, 6, seed=2))
        moved_NCHW = F.pad(input_NCHW, (0, 2, 1, 1))  # column x + 1 in the place of column x
        expected_NCHW = F.conv2d(moved_NCHW, 0.75 * conv.deform.weight)
    torch.testing.assert_close(output_NCHW, expected_NCHW, rtol=0, atol=1e-12)
