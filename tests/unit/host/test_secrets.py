"""Passwords are refused where they would be written, and taken from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsrprune.cli import check_names
from vsrprune.config.job import Config
from vsrprune.errors import UserError
from vsrprune.host.secrets import VARIABLE, refuse_password, without_secrets

PASSWORD = "S3CRET"
WITH = (
    f"postgresql://bob:{PASSWORD}@db.example.org/studies",
    f"postgresql+psycopg2://bob:{PASSWORD}/x:y@/studies?host=/run/sockets",
    f"mysql://:{PASSWORD}@db/studies",
    f"postgresql://db/studies?user=bob&password={PASSWORD}",
    f"mysql://bob@db/studies?ssl=1&Passwd={PASSWORD}",
)
WITHOUT = (
    "",
    "sqlite:////home/bob/a:b@c/study.db",
    "postgresql://bob@db.example.org:5432/studies",
    "postgresql+psycopg2://vsr@/postgres?host=/run/sockets",
    "tcp://10.0.0.1:8786",
    "ray://head:10001",
)


@pytest.mark.parametrize("url", WITH)
@pytest.mark.parametrize("typed", ["search.storage={}", "+search.storage='{}'", "search.storage=[{}"])
def test_a_password_is_refused_before_anything_is_written(url: str, typed: str) -> None:
    with pytest.raises(UserError, match=f"search.storage holds a URL with a password.*{VARIABLE}") as caught:
        check_names(Config, ["-m", "ratio=0.3,0.5", typed.format(url)])
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("part", [".", "search"])
def test_a_password_in_somebodys_own_file_is_refused_too(tmp_path: Path, part: str) -> None:
    (tmp_path / part).mkdir(exist_ok=True)
    (tmp_path / part / "mine.yaml").write_text(f"search:\n  storage: {WITH[0]}\n")
    with pytest.raises(UserError, match=r"mine\.yaml holds a URL with a password") as caught:
        check_names(Config, ["-cd", str(tmp_path)])
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("url", WITHOUT)
def test_urls_without_a_password_pass(url: str) -> None:
    refuse_password("search.storage", url)


def test_messages_of_libraries_lose_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert without_secrets(f"no {PASSWORD}") == f"no {PASSWORD}"
    monkeypatch.setenv(VARIABLE, PASSWORD)
    assert without_secrets(f"no {PASSWORD}") == "no ***"
