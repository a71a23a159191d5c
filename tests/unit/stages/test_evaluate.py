"""What the evaluation puts together: the frames that count, clips shown forth and back, means over clips."""

import math
import weakref
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from vsrprune.data.clips import Clip, make_clip
from vsrprune.data.degradation import to_uint8
from vsrprune.data.demo import demo_clips
from vsrprune.errors import UserError
from vsrprune.metrics.temporal import temporal_quality, truth_motion
from vsrprune.networks.basicvsr.network import BasicVSR
from vsrprune.networks.basicvsr.spec import BasicVSRArguments
from vsrprune.networks.network import States
from vsrprune.results.protocols import Comparison
from vsrprune.stages import bench
from vsrprune.stages.background import beside, each_on_its_thread
from vsrprune.stages.quality import QualityMeter, frames_shown, restored

CPU = torch.device("cpu")
TINY = BasicVSRArguments(
    channels=4, blocks=1, upsampler_channels=4, bidirectional=True, upscale_factors=(2, 2), slope=0.1, flow_levels=2,
    flow_kernel=3, flow_widths=(4,),
)  # fmt: skip


def noise(seed, *shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def clip_of(name, frames, seed=0):
    return make_clip(name, noise(seed, frames, 3, 16, 20), 4)[0]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = BasicVSR(TINY).eval()
    with torch.no_grad():  # untrained last layers are close to zero: make time matter
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def quality_on(clips, outputs, compared, motions=None):
    meter = QualityMeter(compared)
    for clip in clips:
        meter.add(clip, outputs[clip.name], (motions or {}).get(clip.name))
    return meter.quality()


@pytest.mark.parametrize(("frames", "middle"), [(7, 3), (1, 0), (4, 2)])
def test_only_the_middle_frame_counts(frames, middle):
    clip = clip_of("walk", frames)
    output = noise(1, frames, 3, 16, 20)
    output[middle] = clip.high_TCHW[middle]
    quality = quality_on([clip], {"walk": output}, Comparison("rgb", 0, centre=True))
    assert quality.psnr == 100
    assert quality.frames == {"walk": [100]}
    assert quality_on([clip], {"walk": output}, Comparison("rgb", 0)).psnr < 100 or frames == 1


def test_means_are_over_frames_then_over_clips():
    clips = [
        Clip(name, torch.full((frames, 3, 16, 16), 100, dtype=torch.uint8), noise(0, frames, 3, 4, 4))
        for name, frames in (("long", 3), ("short", 1))
    ]
    outputs = {clip.name: clip.high_TCHW.clone() for clip in clips}
    outputs["long"][:] += torch.tensor([1, 5, 10], dtype=torch.uint8).view(3, 1, 1, 1)
    outputs["short"] += 51
    of_long = (48.1308036 + 34.1514035 + 28.1308036) / 3  # 10 log10(255^2 / difference^2)
    quality = quality_on(clips, outputs, Comparison("rgb", 0))
    assert quality.clips["long"]["psnr"] == pytest.approx(of_long)
    assert quality.psnr == pytest.approx((of_long + 13.9794001) / 2)


def test_mirrored_clips_are_seen_forth_and_back_and_averaged(network):
    clip = clip_of("walk", 3)
    with torch.inference_mode():
        low = clip.low_TCHW.float() / 255
        seen = network(low[[0, 1, 2, 2, 1, 0]][None])
    by_hand = to_uint8((seen.frames_NTCHW[0, [0, 1, 2]] + seen.frames_NTCHW[0, [5, 4, 3]]) / 2)
    told: list[tuple[int, States]] = []
    output = restored(network, clip, CPU, mirrored=True, see=lambda t, states: told.append((t, states)))
    assert (output == by_hand).all()
    assert [t for t, _ in told] == [0, 1, 2]
    for branch, states in seen.hidden.items():
        assert all((at[branch] == of).all() for (_, at), of in zip(told, states, strict=False))
    assert (output != restored(network, clip, CPU)).any()
    assert torch.equal(frames_shown(clip, CPU, mirrored=True), low[[0, 1, 2, 2, 1, 0]][None])
    flows = network.flows(frames_shown(clip, CPU, mirrored=True))
    assert (restored(network, clip, CPU, mirrored=True, flows=flows) == output).all()


def test_unmirrored_clips_are_seen_once(network):
    clip = clip_of("walk", 3)
    with torch.inference_mode():
        seen = network(clip.low_TCHW[None].float() / 255)
    assert (restored(network, clip, CPU) == to_uint8(seen.frames_NTCHW[0])).all()
    assert torch.equal(frames_shown(clip, CPU), clip.low_TCHW[None].float() / 255)


def test_temporal_consistency_is_the_mean_over_clips_with_motion():
    clips = [*demo_clips(4, 0, 1, 1, 3).val, clip_of("still", 1)]
    outputs = {clip.name: clip.low_TCHW.repeat_interleave(4, -1).repeat_interleave(4, -2) for clip in clips}
    motions = {clip.name: truth_motion(clip.high_TCHW, 0) for clip in clips}
    plain = quality_on(clips, outputs, Comparison("y", 0))
    quality = quality_on(clips, outputs, Comparison("y", 0), motions)
    single = [temporal_quality(outputs[clip.name], motions[clip.name]) for clip in clips[:-1]]
    for name in ("tof", "warping_error", "warping_error_truth"):
        values = [getattr(temporal, name) for temporal in single]
        assert getattr(quality, name) == pytest.approx(math.fsum(values) / len(values))
        assert [quality.clips[clip.name][name] for clip in clips[:-1]] == values
    assert quality.clips["still"] == plain.clips["still"]
    unmeasured = {"tof": None, "warping_error": None, "warping_error_truth": None}
    assert replace(quality, clips=plain.clips, **unmeasured) == plain


def test_clips_of_single_frames_have_no_temporal_consistency():
    clip = clip_of("still", 1)
    plain = quality_on([clip], {"still": clip.high_TCHW}, Comparison("y", 0))
    motions = {"still": truth_motion(clip.high_TCHW, 8)}
    assert quality_on([clip], {"still": clip.high_TCHW}, Comparison("y", 0), motions) == plain


def test_no_output_is_kept_once_it_is_measured():
    meter, clip = QualityMeter(Comparison("y", 0)), clip_of("walk", 3)
    output = clip.high_TCHW.clone()
    gone = weakref.ref(output)
    meter.add(clip, output, truth_motion(clip.high_TCHW, 0))
    del output
    assert gone() is None
    assert meter.quality().psnr == 100


# Beside the network


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_work_beside_the_network_is_done_in_order_and_to_the_end(device):
    done = []
    with beside(torch.device(device)) as later:
        for piece in range(20):
            later(partial(done.append, piece))
            assert len(done) >= piece  # no more than one piece waits
    assert done == list(range(20))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("failing", [0, 3, 4])
def test_an_error_beside_the_network_is_raised(device, failing):
    """Also that of the last piece."""

    def work(piece):
        if piece == failing:
            raise UserError("frames are too small")

    def run():
        with beside(torch.device(device)) as later:
            for piece in range(5):
                later(partial(work, piece))

    with pytest.raises(UserError, match="frames are too small"):
        run()


def test_pairs_side_by_side_are_pairs_one_by_one(monkeypatch):
    clip = demo_clips(4, 0, 1, 1, 5).val[0]
    output = clip.high_TCHW.flip(-1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    with each_on_its_thread() as each:
        assert each is not map
        motion, alone = truth_motion(clip.high_TCHW, 0, each), truth_motion(clip.high_TCHW, 0)
        assert temporal_quality(output, motion, each) == temporal_quality(output, alone)
    assert all((a == b).all() for a, b in zip(motion.flows, alone.flows, strict=True))
    assert motion.warping_errors == alone.warping_errors


@pytest.mark.parametrize(("room", "computed"), [(2**29, 1), (0, 2)])
def test_the_truths_motion_is_found_once_where_there_is_room_for_it(monkeypatch, room, computed):
    found = []
    monkeypatch.setattr(bench, "MOTION_BYTES", room)
    monkeypatch.setattr(bench, "truth_motion", lambda *given: found.append(given) or truth_motion(*given))
    job = SimpleNamespace(config=SimpleNamespace(evaluate=SimpleNamespace(temporal_pairs=2)))
    shared, clip = bench.Shared(job, None, print), clip_of("walk", 4)
    first, second = shared.motion(clip, map), shared.motion(clip, map)
    assert len(found) == computed
    assert list(first.starts) == [0, 2]
    assert all((a == b).all() for a, b in zip(first.flows, second.flows, strict=True))
    assert first.nbytes == 2 * 16 * 20 * (2 * 4 + 1)  # two flows of two float32, two masks of a byte
