"""Passwords: where they come from, and where they are refused; what is typed as a knob is written to many places."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from vsrprune.errors import UserError

VARIABLE = "VSRPRUNE_STORAGE_PASSWORD"
# A URL with a password, NAME://USER:PASSWORD@HOST, or with one among its options, ...?password=PASSWORD
_WITH_PASSWORD = re.compile(r"://[^:/@\s]*:[^@\s]*@|://\S*[?&]\w*(pass|passwd|password)=", re.IGNORECASE)


def storage_password() -> str:
    """The password of the database of a search; empty if there is none."""
    return os.environ.get(VARIABLE, "")


def refuse_password(where: str, text: str) -> None:
    """Raise UserError if a URL in `text` holds a password. Neither is part of the message.

    Hydra writes knobs into .hydra/ and names of folders, and they appear in logs, in W&B and among the system's
    processes.
    """
    if _WITH_PASSWORD.search(text):
        raise UserError(
            f"{where} holds a URL with a password, and knobs are written into files and names of folders; leave the"
            f" password out (postgresql://USER@HOST/DATABASE) and set the environment variable {VARIABLE}"
        )


def without_secrets(text: str) -> str:
    """The text without the password of the database, for messages of libraries."""
    password = storage_password()
    for shown in filter(None, (password, quote(password, safe=""))):  # as it is, and as in a URL
        text = text.replace(shown, "***")
    return text
