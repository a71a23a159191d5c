"""Jobs share the stages that they have always shared, whatever their keys are."""

import json
import sys
from pathlib import Path

import pytest

GOLDENS = Path(__file__).parents[2] / "goldens"
sys.path.insert(0, str(GOLDENS))
import stage_sharing  # noqa: E402

RECORDED = json.loads((GOLDENS / "stage_sharing.json").read_text())


@pytest.fixture(scope="module")
def planned() -> dict[str, dict[str, int]]:
    return stage_sharing.sharing(stage_sharing.planned)


def test_every_recorded_job_is_still_planned(planned):
    assert list(planned) == list(RECORDED)


@pytest.mark.parametrize("line", RECORDED)
def test_a_job_has_the_stages_it_had(planned, line):
    assert set(planned[line]) == set(RECORDED[line])


@pytest.mark.parametrize("stage", sorted({stage.split("_")[0] for stages in RECORDED.values() for stage in stages}))
def test_jobs_share_a_stage_exactly_where_they_did(planned, stage):
    def groups(table):
        shared = {}
        for line, stages in table.items():
            for name, number in stages.items():
                if name.split("_")[0] == stage:
                    shared.setdefault(number, []).append((line, name))
        return sorted(shared.values())

    assert groups(planned) == groups(RECORDED)
