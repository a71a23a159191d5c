"""Folder names: readable, safe, short, and the same for the same jobs."""

import re

import pytest

from vsrprune.host.naming import LONGEST, job_names, run_name, slug, sweep_name


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
    assert re.fullmatch(r"a{91}-[0-9a-f]{8}", slug(one))


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
    jobs = [["data.path=clips/new"], ["data.path=clips-new"]]
    names = job_names(jobs)
    assert len(set(names)) == len(jobs)
    assert all(re.fullmatch(r"data\.path=clips-new-[0-9a-f]{8}", name) for name in names)
    assert job_names(jobs[::-1]) == names[::-1]


# Sweeps


def test_a_sweep_is_named_by_its_jobs_in_any_order():
    jobs = [["rsc=true", "ratio=0.3"], ["rsc=false", "ratio=0.3"]]
    name = sweep_name("config", jobs)
    assert re.fullmatch(r"sweep-[0-9a-f]{8}", name)
    assert sweep_name("config", jobs[::-1]) == name
    assert sweep_name("config", [job[::-1] for job in jobs]) == name


def test_other_jobs_make_another_sweep():
    sweeps = [[["a=1"], ["a=2"]], [["a=1"], ["a=3"]], [["a=1"]], [["a=1"], ["a=2"], ["a=3"]], [["a=1", "a=2"]], [[]]]
    assert len({sweep_name("config", jobs) for jobs in sweeps}) == len(sweeps)


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
