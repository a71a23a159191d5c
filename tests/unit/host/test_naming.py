"""Folder names: readable, safe, short, and the same for the same jobs."""

import os
import re
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsrprune.errors import UserError
from vsrprune.host.naming import (
    LATEST,
    LONGEST,
    RECORD,
    check_sweep_name,
    claim_sweep_name,
    job_names,
    mark_latest,
    run_name,
    slug,
    sweep_name,
)


@pytest.mark.parametrize("text", ["ratio=0.5", "rsc=true,ratio=0.3", "model=basicvsr_tiny", "seed=-1", "default"])
def test_a_safe_text_is_its_own_name(text):
    assert slug(text) == text
    assert slug(slug(text)) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("data.path=/home/me/clips", "data.path=-home-me-clips"),
        ("ratios={fusion: 0.5}", "ratios=-fusion-0.5"),
        ("a b\tc\nd", "a-b-c-d"),
        ("../../etc", "etc"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("größe=1", "gr-e=1"),
    ],
)
def test_unsafe_characters_are_replaced(text, name):
    assert slug(text) == name


@pytest.mark.parametrize("text", ["", "..", "/", "  ", "-"])
def test_nothing_left_is_called_default(text):
    assert slug(text) == "default"


@pytest.mark.parametrize("length", [LONGEST - 1, LONGEST])
def test_a_text_that_fits_is_not_shortened(length):
    assert slug("x" * length) == "x" * length


def test_long_texts_are_shortened_and_stay_apart():
    one, two = "a" * 300 + "=1", "a" * 300 + "=2"
    assert len(slug(one)) == len(slug(two)) == LONGEST
    assert slug(one) != slug(two)
    assert slug(one) == slug(one)
    assert re.fullmatch(r"a{71}-[0-9a-f]{8}", slug(one))


def test_every_name_is_one_safe_path_component():
    for text in ("a/b\\c", "x" * 500 + "/" + "y", "\0", "'; rm -r", "a:b*c?", "~", "é" * 200):
        name = slug(text)
        assert re.fullmatch(r"[A-Za-z0-9=,_][A-Za-z0-9=.,_-]*", name)
        assert len(name) <= LONGEST


# Jobs of a sweep


def test_jobs_are_named_by_what_differs():
    jobs = [["rsc=true", "ratio=0.3", "seed=1"], ["rsc=false", "ratio=0.3", "seed=1"]]
    assert job_names(jobs) == ["rsc=true", "rsc=false"]
    jobs = [["rsc=true", "ratio=0.3"], ["rsc=true", "ratio=0.5"], ["rsc=false", "ratio=0.3"]]
    assert job_names(jobs) == ["rsc=true,ratio=0.3", "rsc=true,ratio=0.5", "rsc=false,ratio=0.3"]


def test_a_single_job_is_named_by_everything():
    assert job_names([["rsc=true", "ratio=0.3"]]) == ["rsc=true,ratio=0.3"]
    assert job_names([[]]) == ["default"]


def test_an_override_that_one_job_lacks_tells_it_apart():
    assert job_names([["ratio=0.3"], ["ratio=0.3", "seed=1"]]) == ["default", "seed=1"]


@pytest.mark.parametrize(
    "place",
    [
        "store_dir=a",
        "runs_dir=a",
        "tracking=none",
        "tracking.mode=none",
        "launcher=local",
        "trainer.workers=2",
        "hydra.verbose=true",
        "+hydra.sweep.dir=x",
        "~tracking",
        "dry_run=true",
        "sweep.name=mine",
    ],
)
def test_places_do_not_name_jobs_or_sweeps(place):
    jobs = [["ratio=0.3", place], ["ratio=0.5", f"{place}x"]]
    assert job_names(jobs) == ["ratio=0.3", "ratio=0.5"]
    assert sweep_name("config", jobs) == sweep_name("config", [["ratio=0.3"], ["ratio=0.5"]])


@pytest.mark.parametrize("override", ["trainer.threads=2", "+model.depth=3", "data.path=hydra"])
def test_other_overrides_do_name_jobs(override):
    assert job_names([["ratio=0.3", override], ["ratio=0.3"]]) == [slug(override), "default"]


def test_booleans_are_named_as_they_are_typed():
    assert job_names([["rsc=True"], ["rsc=False"]]) == job_names([["rsc=true"], ["rsc=false"]])
    assert job_names([["rsc=True"], ["rsc=False"]]) == ["rsc=true", "rsc=false"]
    assert sweep_name("config", [["rsc=True"]]) == sweep_name("config", [["rsc=true"]])


def test_jobs_that_differ_have_different_names():
    jobs = [["data.val=[clips/new]"], ["data.val=[clips-new]"]]
    names = job_names(jobs)
    assert len(set(names)) == len(jobs)
    assert all(re.fullmatch(r"data\.val=-clips-new-[0-9a-f]{8}", name) for name in names)
    assert job_names(jobs[::-1]) == names[::-1]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/very/long/CLIPS", "/very/long/OTHERS"], ["CLIPS", "OTHERS"]),
        (["/day/clips/", "/night/clips/"], ["day-clips", "night-clips"]),
        (["'/my clips/a'", "'/my clips/b'"], ["a", "b"]),
        (["/a/x/clips", "/b/x/clips", "/c/other"], ["a-x-clips", "b-x-clips", "c-other"]),
        (["clips", "deep/clips"], ["clips", "deep-clips"]),
        (["clips", "/else/where"], ["clips", "where"]),
    ],
)
def test_of_paths_a_name_has_the_last_parts_that_differ(paths, names):
    jobs = [[f"data.path={path}", "ratio=0.3"] for path in paths]
    assert job_names(jobs) == [f"data.path={name}" for name in names]
    assert job_names(jobs[::-1]) == job_names(jobs)[::-1]


def test_numbers_in_names_are_those_that_were_typed():
    jobs = [["schedule.pretrain.lr=0.001", "ratio=0.3"], ["schedule.pretrain.lr=1e-05", "ratio=0.3"]]
    typed = {"schedule.pretrain.lr=0.001": "schedule.pretrain.lr=1e-3", "schedule.pretrain.lr=1e-05": "lr=1.0e-5"}
    assert job_names(jobs, typed) == ["schedule.pretrain.lr=1e-3", "lr=1.0e-5"]


LETTERS = st.text("ab/ =,.-'[]é", max_size=120)


@given(st.lists(st.tuples(LETTERS, LETTERS), unique=True, min_size=2, max_size=6))
def test_names_of_any_jobs_are_short_safe_different_and_the_same_in_any_order(values):
    jobs = [[f"data.path={path}", f"model.file={file}"] for path, file in values]
    names = job_names(jobs)
    assert len(set(names)) == len(jobs)
    assert all(re.fullmatch(r"[A-Za-z0-9=,_+][A-Za-z0-9=.,_+-]{0,79}", name) for name in names)
    assert job_names(jobs[::-1]) == names[::-1]


# Sweeps


def test_a_sweep_is_named_by_its_jobs_in_any_order():
    jobs = [["rsc=true", "ratio=0.3"], ["rsc=false", "ratio=0.3"]]
    name = sweep_name("config", jobs)
    assert re.fullmatch(r"rsc-[0-9a-f]{8}", name)
    assert sweep_name("config", jobs[::-1]) == name
    assert sweep_name("config", [job[::-1] for job in jobs]) == name


def test_other_jobs_make_another_sweep():
    sweeps = [[["a=1"], ["a=2"]], [["a=1"], ["a=3"]], [["a=1"]], [["a=1"], ["a=2"], ["a=3"]], [["a=1", "a=2"]], [[]]]
    assert len({sweep_name("config", jobs) for jobs in sweeps}) == len(sweeps)


def test_a_sweep_is_named_by_what_varies_in_the_order_given():
    jobs = [[f"rsc={rsc}", "seed=1", f"ratio={ratio}"] for rsc in ("true", "false") for ratio in (0.3, 0.5, 0.7)]
    assert re.fullmatch(r"rsc-by-ratio-[0-9a-f]{8}", sweep_name("config", jobs))
    swapped = sweep_name("config", [job[::-1] for job in jobs])
    assert swapped == sweep_name("config", jobs).replace("rsc-by-ratio", "ratio-by-rsc")
    assert re.fullmatch(r"sweep-[0-9a-f]{8}", sweep_name("config", [["ratio=0.3"]]))
    assert re.fullmatch(r"model\.width-[0-9a-f]{8}", sweep_name("config", [["+model.width=3"], []]))


def test_the_demo_s_sweep_keeps_its_hash():
    jobs = [[f"rsc={rsc}", f"ratio={ratio}"] for rsc in ("true", "false") for ratio in (0.3, 0.5, 0.7)]
    assert sweep_name("config", jobs) == "rsc-by-ratio-cf018d18"


def test_a_sweep_of_many_axes_names_those_that_fit():
    knobs = [f"schedule.{stage}.steps" for stage in ("flow", "pretrain", "sparsify", "finetune", "align")]
    name = sweep_name("config", [[f"{knob}={value}" for knob in knobs] for value in (1, 2)])
    assert re.fullmatch(r"schedule\.flow\.steps-by-schedule\.pretrain\.steps-and-3-more-[0-9a-f]{8}", name)
    assert len(name) <= LONGEST


# Names that users give


@pytest.mark.parametrize("name", [None, "demo", "rsc-by-ratio-cf018d18", "2026", "x" * LONGEST, "a=1,b=2"])
def test_good_names_are_taken(name):
    check_sweep_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "..", ".", ".hidden", "a/b", "/", "a b", "größe", "x" * 300, "x" * (LONGEST + 1), "latest", "-m", "a\n"],
)
def test_names_that_are_no_good_folders_are_refused_in_one_line(name):
    with pytest.raises(
        UserError, match=r"^sweep\.name=.* is no name for a folder in runs_dir: take up to 80 .*$"
    ) as no:
        check_sweep_name(name)
    assert len(str(no.value)) < 250


def test_a_name_belongs_to_one_sweep(tmp_path):
    folder = tmp_path / "runs" / "mine"
    claim_sweep_name("mine", "ratio-00000001", folder)
    claim_sweep_name("mine", "ratio-00000001", folder)
    with pytest.raises(UserError, match=r"sweep\.name=mine: .*mine holds ratio-00000001 already; take another name"):
        claim_sweep_name("mine", "ratio-00000002", folder)
    (folder / RECORD).write_text("[")
    with pytest.raises(UserError, match="holds another sweep, or a damaged"):
        claim_sweep_name("mine", "ratio-00000001", folder)
    (tmp_path / "ratio=0.3").mkdir()
    claim_sweep_name("empty", "ratio-00000001", tmp_path / "ratio=0.3")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "result.json").touch()
    with pytest.raises(UserError, match="holds what is no sweep of this name already"):
        claim_sweep_name("job", "ratio-00000001", tmp_path / "job")


# The link to the last run


def test_latest_leads_to_the_last_run_by_a_relative_link(tmp_path):
    runs = tmp_path / "runs"
    for name in ("one", "two", "two"):
        (runs / name).mkdir(parents=True, exist_ok=True)
        mark_latest(runs, runs / name)
        assert os.readlink(runs / LATEST) == name
    runs.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / LATEST).resolve() == tmp_path / "moved" / "two"
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == [LATEST, "one", "two"]


def test_latest_leads_out_of_the_folder_of_runs_too(tmp_path):
    (tmp_path / "disk" / "runs").mkdir(parents=True)
    (tmp_path / "runs").symlink_to(tmp_path / "disk" / "runs")
    (tmp_path / "elsewhere").mkdir()
    mark_latest(tmp_path / "runs", tmp_path / "elsewhere")
    assert (tmp_path / "runs" / LATEST).samefile(tmp_path / "elsewhere")
    assert not os.readlink(tmp_path / "runs" / LATEST).startswith("/")


def test_what_is_no_link_is_left_alone_and_a_link_that_leads_nowhere_is_replaced(tmp_path):
    (tmp_path / LATEST).mkdir()
    (tmp_path / "one").mkdir()
    mark_latest(tmp_path, tmp_path / "one")
    assert not (tmp_path / LATEST).is_symlink()
    (tmp_path / LATEST).rmdir()
    (tmp_path / LATEST).symlink_to("gone")
    mark_latest(tmp_path, tmp_path / "one")
    assert os.readlink(tmp_path / LATEST) == "one"


@pytest.mark.parametrize("error", [OSError(1, "no links here"), NotImplementedError()])
def test_where_no_links_can_be_made_nothing_happens(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(Path, "symlink_to", refuse)
    (tmp_path / "one").mkdir()
    mark_latest(tmp_path, tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_reader_always_finds_a_run_at_the_link(tmp_path):
    names = ["one", "two"]
    for name in names:
        (tmp_path / name).mkdir()
    mark_latest(tmp_path, tmp_path / "one")
    done, seen = threading.Event(), set()

    def read():
        while not done.is_set():
            seen.add(os.readlink(tmp_path / LATEST))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(500):
        mark_latest(tmp_path, tmp_path / names[turn % 2])
    done.set()
    reader.join()
    assert seen <= set(names)


def test_a_named_configuration_names_the_sweep():
    assert re.fullmatch(r"table_2-[0-9a-f]{8}", sweep_name("table_2", [["a=1"]]))
    assert re.fullmatch(r"sweeps-table_2-[0-9a-f]{8}", sweep_name("sweeps/table_2", [["a=1"]]))


# Single runs


def test_single_runs_that_differ_have_different_names():
    assert run_name("", "config") == "default"
    assert run_name("ratio=0.3,rsc=true", "config") == "ratio=0.3,rsc=true"
    names = [
        run_name(text, "config") for text in ("data.path=a/b", "data.path=a-b", "data.path=a b", "x" * 200, "x" * 201)
    ]
    assert len(set(names)) == len(names)
    assert run_name("", "mine") == "mine"
    assert run_name("ratio=0.3", "mine") == "mine,ratio=0.3"


def test_the_name_of_a_single_run_has_the_last_parts_of_its_paths():
    name = run_name("data=folder,data.path=/very/long/CLIPS,ratio=0.5", "config")
    assert re.fullmatch(r"data=folder,data\.path=CLIPS,ratio=0\.5-[0-9a-f]{8}", name)
    assert name != run_name("data=folder,data.path=/other/CLIPS,ratio=0.5", "config")


def test_a_long_text_that_gets_short_by_what_is_replaced_has_a_hash_too():
    clips = ("街道夜景素材第一批", "海边日出素材第二批")
    texts = [
        f"data=folder,data.path=/home/someone/datasets/video/{clip},data.halve=true,model=basicvsr" for clip in clips
    ]
    texts = [f"{text},schedule=short" for text in texts]
    assert all(len(text) > LONGEST >= len(slug(text)) for text in texts)
    names = [run_name(text, "config") for text in texts]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r".*-[0-9a-f]{8}", name) for name in names)


@pytest.mark.parametrize(
    "text", ["ratio=0.3", "data.path=a/b", "x" * 200, "é" * 150, "data.path=" + "é" * 150 + "x" * 99]
)
def test_a_name_has_a_hash_just_where_it_is_not_the_text(text):
    name = run_name(text, "config")
    assert (name == text) != bool(re.fullmatch(r"(.*-)?[0-9a-f]{8}", name))
