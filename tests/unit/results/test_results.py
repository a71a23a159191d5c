"""A result survives its round trip through JSON, and derived shares are worked out by hand."""

import json
from dataclasses import replace

import pytest
from results_made import small_measured, small_result
from rich.console import Console

from vsrprune.channels.plan import PrunePlan
from vsrprune.errors import UserError
from vsrprune.results.measured import Measured
from vsrprune.results.result import (
    FORMAT,
    RESULT,
    Cost,
    Equivalence,
    Gates,
    HiddenError,
    Int8,
    Layer,
    Quality,
    Result,
    check_files,
    time_caveats_of,
)
from vsrprune.results.terminal import Row, print_results
from vsrprune.selection.budget import Budget

SIZE = (180, 320)


def quality(psnr):
    return Quality(psnr, 0.8125, {"walk": {"psnr": psnr, "ssim": 0.8125}}, {"walk": [psnr - 1, psnr + 1]})


@pytest.fixture
def result():
    return Result(
        knobs={"ratio": 0.5, "ratios": None, "model": {"upscale_factors": [2, 2]}},
        rule="rsc",
        scale=4,
        quality={name: quality(30.0 + n) for n, name in enumerate(("baseline", "dense", "finetuned"))},
        cost={"dense": Cost(1000, 1400, 8000, 9000, SIZE), "pruned": Cost(300, 700, 2000, 3000, SIZE)},
        layers=[Layer("fusion", "upsampler", "fusion", 3, 16), Layer("conv_hr", "upsampler", "reconstruction", 5, 24)],
        budget=Budget("units", dense=40, wanted=10, reached=8),
        gates=Gates(max_cut=0.01, mean_cut=0.002),
        equivalence=Equivalence(float64=1e-15, float32=1e-7),
        hidden_error={
            "after_cut": {"backward": HiddenError([0.4, 0.5], [0.1, 0.5], [0.3, 0.0])},
            "finetuned": {"backward": HiddenError([0.1, 0.2], None, None)},
        },
        scores={"fusion": [0.1, 0.2]},
        plan=PrunePlan("rsc", {"fusion": 16}, {"fusion": (0, 5, 7)}),
        stages={"pretrain": "0123456789abcdef"},
        steps=190,
        notes=["clip walk: cropped"],
    )


def test_round_trip_through_a_folder(result, tmp_path):
    result.save(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [RESULT]
    loaded = Result.load(tmp_path / "run")
    assert loaded == result
    assert isinstance(loaded.quality["dense"], Quality)
    assert isinstance(loaded.hidden_error["after_cut"]["backward"], HiddenError)
    assert isinstance(loaded.layers[0], Layer)
    assert loaded.cost["dense"].size == SIZE
    assert isinstance(loaded.cost["dense"].size, tuple)
    assert loaded.plan.cut("fusion") == (1, 2, 3, 4, 6, 8, 9, 10, 11, 12, 13, 14, 15)
    assert loaded.budget.deviation == -0.2


@pytest.mark.parametrize(
    ("gain", "quotient", "caveats"),
    [
        (None, None, []),
        (0.1, 1.0, []),
        (0.3, None, []),
        (0.0999, 0.5, ["other frames are worth +0.10 dB"]),
        (-0.02, None, ["other frames are worth -0.02 dB"]),
        (0.3, 1.01, ["the dense network's flows do not follow motion"]),
        (0.04, 1.37, ["other frames are worth +0.04 dB", "the dense network's flows do not follow motion"]),
    ],
)
def test_a_network_that_hardly_uses_time_is_said_to_be_one(result, gain, quotient, caveats):
    found = replace(result, temporal_gain=gain, flow_photometric=quotient).time_caveats
    assert len(found) == len(caveats)
    assert all(caveat.startswith(start) for caveat, start in zip(found, caveats, strict=True))


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ([0.03, 0.03], "worth +0.03 dB to the dense network, less than 0.1: it hardly uses"),
        ([0.03, -0.004, 0.05], "worth +0.00 to +0.05 dB to the dense networks, less than 0.1: they hardly use"),
        ([0.5, -0.02], "worth -0.02 dB to some of the dense networks, less than 0.1: it hardly uses"),
        ([0.5, -0.02, None, 0.01], "worth -0.02 to +0.01 dB to some of the dense networks, less than 0.1: they"),
    ],
)
def test_networks_that_hardly_use_time_are_said_to_be_some_in_one_sentence(result, gains, words):
    (caveat,) = time_caveats_of([replace(result, temporal_gain=gain) for gain in gains])
    assert words in caveat


def test_the_quality_on_test_clips_survives_the_round_trip(result, tmp_path):
    tested = replace(result, test={name: quality(29.0) for name in ("baseline", "dense", "finetuned")})
    tested.save(tmp_path)
    assert Result.load(tmp_path) == tested


def test_what_a_method_does_not_have_is_none_after_the_round_trip_too(result, tmp_path):
    bare = replace(result, gates=None, equivalence=None, scores=None)
    bare.save(tmp_path)
    loaded = Result.load(tmp_path)
    assert loaded == bare
    assert (loaded.gates, loaded.equivalence, loaded.scores) == (None, None, None)


def test_files_say_what_people_look_for(result):
    data = json.loads(json.dumps(result.to_json()))
    assert data["plan"] == {"rule": "rsc", "groups": {"fusion": {"size": 16, "kept": [0, 5, 7]}}}
    assert data["budget"] == {"target": "units", "dense": 40, "wanted": 10, "reached": 8, "deviation": -0.2}
    assert data["gates"] == {"max_cut": 0.01, "mean_cut": 0.002}


def test_round_trip_through_json(result):
    data = json.loads(json.dumps(result.to_json()))
    assert data["format"] == FORMAT
    assert Result.from_json(data) == result


def test_saving_again_replaces_the_result(result, tmp_path):
    result.save(tmp_path)
    replace(result, notes=[]).save(tmp_path)
    assert Result.load(tmp_path).notes == []


def test_from_json_leaves_its_input_alone(result):
    data = json.loads(json.dumps(result.to_json()))
    before = json.dumps(data)
    Result.from_json(data)
    assert json.dumps(data) == before


@pytest.mark.parametrize("found", [FORMAT + 1, 0, str(FORMAT), None])
def test_another_format_is_refused(result, tmp_path, found):
    (tmp_path / RESULT).write_text(json.dumps({**result.to_json(), "format": found}))
    expected = rf"result\.json: result of format {found!r}; this version reads format {FORMAT}: run the job's command"
    with pytest.raises(UserError, match=expected) as refused:
        Result.load(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_result_without_a_format_is_refused_before_it_is_read():
    with pytest.raises(UserError, match="result of format None"):
        Result.from_json({"psnr": 31})


def test_a_result_that_is_not_finite_is_never_saved(result, tmp_path):
    result.save(tmp_path)
    broken = replace(result, quality={**result.quality, "finetuned": quality(float("nan"))})
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.save(tmp_path)
    assert Result.load(tmp_path) == result


def test_share_of_macs_kept_by_hand(result):
    assert result.macs_kept == 0.25  # 2000 of 8000, flow net excluded


def test_share_of_units_cut_by_hand(result):
    assert result.units_cut == 0.8  # 8 of 40 are kept


DATA = {"degradation": "bicubic", "low": "bi", "crop": 0}


def knobs(task=None, protocol="full", **data):
    return {"task": task or {"name": "sr"}, "data": {**DATA, **data}, "evaluate": {"protocol": protocol}}


@pytest.mark.parametrize(("protocol", "data", "expected"), [
    ("full", {}, ""),
    ("udm10", {"degradation": "bd_duf", "crop": 8},
     " (evaluate.protocol=udm10, data.degradation=bd_duf, data.crop=8)"),
    ("full", {"crop": 4}, " (data.crop=4)"),
    ("full", {"low": "bd"}, " (data.low=bd)"),
])  # fmt: skip
def test_a_result_names_the_conventions_that_are_not_the_default(result, protocol, data, expected):
    assert replace(result, knobs=knobs(protocol=protocol, **data)).convention == expected


@pytest.mark.parametrize(("task", "baseline", "convention"), [
    ({"name": "sr"}, "bicubic", ""),
    ({"name": "denoise", "sigma": 25.0}, "input", " (task=denoise, task.sigma=25)"),
    ({"name": "deblur", "blur_frames": 7}, "input", " (task=deblur, task.blur_frames=7)"),
])  # fmt: skip
def test_the_baseline_follows_the_task(result, task, baseline, convention):
    changed = replace(result, knobs=knobs(task))
    assert changed.baseline_name == baseline
    assert changed.convention == convention


def test_results_without_temporal_consistency_are_read(result):
    data = json.loads(json.dumps(result.to_json()))
    for values in data["quality"].values():
        for name in ("tof", "warping_error", "warping_error_truth"):
            assert values.pop(name) is None
    assert Result.from_json(data) == result


@pytest.mark.parametrize(("name", "words"), [
    ("metrics.jsonl", "fails its checksum"),
    ("crops/a_pruned.png", "is missing"),
    ("result.json", "damaged"),
])  # fmt: skip
def test_a_result_vouches_for_itself_and_for_what_lies_beside_it(result, tmp_path, name, words):
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "a_pruned.png").write_bytes(b"pixels")
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}')
    result.save(tmp_path)
    check_files(tmp_path)
    assert Result.load(tmp_path) == result
    if words == "is missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text((tmp_path / name).read_text().replace("0", "1", 1))
    with pytest.raises(UserError, match=rf"{name} .*{words}.*run the job's command again"):
        check_files(tmp_path) if name != RESULT else Result.load(tmp_path)


INT8 = Int8(
    quality=quality(31.5),
    test=quality(29.5),
    hidden_error={"forward": HiddenError([0.01, 0.02], [0.01, 0.01], [0.0, 0.01])},
    convolutions=22,
    kept_float=["step/trunk.first"],
    loss_all_int8=0.31,
    loss=0.12,
    size=1000,
    size_float32=3000,
)


MS = {"dense": 9.0, "float32": 6.0, "int8": 3.0}


def test_an_int8_network_survives_the_round_trip_and_is_not_spoken_of_where_there_is_none(result, tmp_path):
    assert "int8" not in result.to_json()
    quantised = replace(result, int8=INT8)
    quantised.save(tmp_path)
    assert Result.load(tmp_path) == quantised
    assert Result.from_json(result.to_json()).int8 is None


def test_times_in_an_engine_survive_the_round_trip_and_are_not_spoken_of_where_there_are_none(tmp_path):
    measured = small_measured()
    assert "engine_ms" not in measured.to_json()
    timed = replace(measured, engine_ms={"onnxruntime": MS})
    timed.save(tmp_path)
    assert Measured.load(tmp_path) == timed


def test_tables_show_int8_networks_and_times_in_engines_where_a_job_has_some():
    measured = small_measured()
    engine_ms = {"onnxruntime": MS, "openvino": {"dense": 8.0, "float32": 5.0}}
    timed = replace(measured, engine_ms=engine_ms, versions={"onnxruntime": "1.2", "openvino": "3.4"})
    knobs = {**dict.fromkeys(("target", "scope"), "units"), "model": {"name": "net"}, "evaluate": {"protocol": "full"}}
    knobs["data"] = {"channel": "y", "degradation": "bicubic", "low": "bi", "crop": 0}
    plain = replace(small_result(), knobs={**small_result().knobs, **knobs}, stages={"reference": "same"})
    rows = [Row("quantise=none", plain, measured), Row("quantise=int8", replace(plain, int8=INT8), timed)]
    console = Console(width=100)
    with console.capture() as printed:
        print_results(rows, console)
    whole, found, more = printed.get().partition("In int8")
    assert found
    int8, found, engines = more.partition("In engines")
    assert found
    assert "#2 quantise=int8" in whole
    (row,) = (line.split() for line in int8.splitlines() if "quantise=" in line)
    # 3000 bytes are 0.00 MB.
    assert row[1:] == ["quantise=int8", "31.50", "+2.50", "0.8125", "0.00", "0.00"]
    one, other = (line.split() for line in engines.splitlines() if line.strip().startswith(("#2", "openvino")))
    assert one == ["#2", "quantise=int8", "onnxruntime", "9.0", "6.0", "1.50", "3.0", "3.00"]
    assert other == ["openvino", "8.0", "5.0", "1.60"]
    assert "in onnxruntime 1.2 and openvino 3.4 on the CPU" in " ".join(engines.split())
    assert "#1" not in int8
    assert "#2 keeps in 32 bits: step/trunk.first." in int8
    with console.capture() as printed:
        print_results(rows[:1], console)
    assert "int8" not in printed.get()
    assert "engines" not in printed.get()
