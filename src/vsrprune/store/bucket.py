"""A store in object storage, as the few operations that the protocol needs: S3, Google Cloud, Azure, or a folder.

Two of them decide who wins where several machines write: `create` (a put that fails where a name exists) and
`replace` (a put that fails unless the object is still the one that was read, by its ETag). Everything else may be done
twice. What fails for a while is tried again; credentials are the client library's business, and no message shows them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from vsrprune.errors import UserError
from vsrprune.store.locks import opened, wait_for_lock

SCHEMES = ("s3", "gs", "az", "file")
TRIES = 8  # about a minute in all
FIRST_WAIT, LONGEST_WAIT = 0.25, 20.0  # seconds between two tries
TIMEOUT = "45s"  # of one request; a large file is sent in parts
CONNECT_TIMEOUT = "10s"
# An answer 400 by which S3 means 401.
REFUSED = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "TokenRefreshRequired")
NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "specified bucket does not exist")
METADATA = ("169.254.169.254", "metadata.google.internal")  # where machines of a cloud ask for their role's
FULL = ("QuotaExceeded", "InsufficientStorage", "StorageFull", "status code: 507", "No space left")

T = TypeVar("T")


@dataclass(frozen=True)
class Thing:
    """An object that was read: its content, and the ETag by which it can be replaced."""

    content: bytes
    e_tag: str
    changed: datetime  # by the server's clock


def is_url(place: str | Path) -> bool:
    """Whether a place of a store is one in object storage, and no folder."""
    # With a slash too few it is a slip, which `check_url` names, and no folder called s3:.
    return "://" in str(place) or (str(place).partition(":")[0] in SCHEMES and ":" in str(place))


def check_url(knob: str, url: str) -> None:
    """Raise UserError for what is no place in object storage. knob: what the user named it by."""
    parts = urlsplit(url)
    allowed = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///FOLDER"
    if "://" not in url:
        raise UserError(f"{knob}={url}: a store in object storage is {allowed}, with both slashes")
    if parts.scheme not in SCHEMES or not url.startswith(parts.scheme):  # which are small letters
        raise UserError(f"{knob}={url.partition(':')[0]}://...: a store in object storage is {allowed}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            f"{knob} is to hold no key and no options: it stands in results and logs; give credentials as your client"
            " of the storage takes them, in the environment for example"
        )
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise UserError(f"{knob}={url}: a folder is named by its whole path, with three slashes: file:///FOLDER")
    if parts.scheme != "file" and not parts.netloc:
        raise UserError(f"{knob}={url}: the bucket is missing; {allowed}")


class Bucket:
    """The objects below one URL. Names are paths with slashes, without one at the beginning."""

    def __init__(self, url: str, say: Callable[[str], None]) -> None:
        self.url, self._say = url.rstrip("/"), say
        check_url("store", self.url)
        self._objects, self._errors = _client(self.url)
        self._folder = Path(unquote(urlsplit(self.url).path)) if self.url.startswith("file:") else None

    def read(self, name: str) -> Thing | None:
        """An object, or None where there is none."""

        def call() -> Thing:
            got = self._objects.get(name)
            return Thing(bytes(got.bytes()), got.meta["e_tag"], got.meta["last_modified"])

        return self._unless_absent(call)

    def create(self, name: str, content: bytes) -> str | None:
        """Put an object under a name that is free, and return its ETag; None where the name is taken.

        Contents of two writers must differ: it is by them that a writer whose answer was lost knows its own object.
        """
        return self._decisive(name, content, "create", self._errors.AlreadyExistsError)

    def replace(self, name: str, content: bytes, e_tag: str) -> str | None:
        """Put an object in place of the one that has this ETag, and return the new one; None where that is gone."""
        if self._folder is None:
            failures = (self._errors.PreconditionError, self._errors.AlreadyExistsError, self._errors.NotFoundError)
            return self._decisive(name, content, {"e_tag": e_tag}, failures, before=e_tag)
        # A folder has no such operation; only processes of one file system meet there, and a lock is enough.
        with opened(self._folder / ".mutex", 0o600) as handle:
            wait_for_lock(handle, fcntl.LOCK_EX, self._folder / ".mutex", "end it, or use another store_dir")
            there = self.read(name)
            if there is None or there.e_tag != e_tag:
                return None
            return str(self._patiently(lambda: self._objects.put(name, content))["e_tag"])

    def write(self, name: str, content: bytes) -> None:
        """Put an object, whatever is there."""
        self._patiently(lambda: self._objects.put(name, content))

    def upload(self, name: str, path: Path) -> None:
        """Put a file's content."""
        self._patiently(lambda: self._objects.put(name, path))

    def download(self, name: str, path: Path) -> bool:
        """Write an object into a new file; False where there is no such object."""

        def call() -> bool:
            parts = self._objects.get(name)
            try:
                with path.open("wb") as stream:
                    for part in parts:
                        stream.write(part)
            except OSError as error:
                if error.errno is not None:  # of this machine's disk, as in `_refuse`; the message is to say where
                    error.filename = str(path)
                raise
            return True

        return self._unless_absent(call) or False

    def delete(self, names: Sequence[str]) -> None:
        """Remove objects; those that are gone do not matter."""
        for name in names:
            self._unless_absent(lambda name=name: self._objects.delete(name))  # type: ignore[misc]

    def names(self, prefix: str) -> list[tuple[str, int, datetime]]:
        """Objects below a prefix: name, bytes, and when each was written by the server's clock."""
        return self._patiently(lambda: list(self._list(prefix)))

    def now(self) -> datetime:
        """The server's time, by an object that is written for it: clocks of two machines are not compared."""
        name = f"clock/{uuid.uuid4().hex}"
        self.write(name, b"")
        try:
            meta: Any = self._patiently(lambda: self._objects.head(name))
            changed: datetime = meta["last_modified"]
        finally:
            self.delete([name])
        return changed

    def _list(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        for page in self._objects.list(prefix):
            for item in page:
                if not item["path"].startswith(".mutex"):
                    yield item["path"], item["size"], item["last_modified"]

    def _decisive(self, name: str, content: bytes, mode: Any, lost: Any, before: str = "") -> str | None:
        def call() -> str | None:
            try:
                return str(self._objects.put(name, content, mode=mode, use_multipart=False)["e_tag"])
            except lost:
                # Perhaps the race was lost to an earlier try of this very call, whose answer did not arrive.
                there = self.read(name)
                if there is not None and there.content == content:
                    return there.e_tag
                if before == (there.e_tag if there is not None else ""):  # two requests met, and S3 took neither
                    raise ConnectionError("the storage is busy with another request for the same object") from None
                return None

        return self._patiently(call)

    def _unless_absent(self, call: Callable[[], T]) -> T | None:
        try:
            return self._patiently(call)
        except FileNotFoundError as error:
            if error.errno is not None:  # of this machine's disk, as in `_refuse`
                raise
            return None

    def _patiently(self, call: Callable[[], T]) -> T:
        """What `call` returns, tried again while the storage fails. Raises UserError in the end, FileNotFoundError."""
        errors = self._errors
        for tried in range(1, TRIES + 1):
            try:
                return _interruptible(call)
            except FileNotFoundError as error:
                if any(word in str(error) for word in NO_BUCKET):
                    raise UserError(f"{self.url}: there is no such bucket; make it, or name another") from None
                raise
            except (errors.BaseError, OSError) as error:
                # Not `from error`: what the library says may hold a signed address.
                self._refuse(error)
                if tried == TRIES:
                    raise UserError(
                        f"{self.url} does not answer as it should, after {TRIES} tries ({_reason(error)}); what is"
                        " finished is kept: run the same command again"
                    ) from None
                wait = min(LONGEST_WAIT, FIRST_WAIT * 2**tried) * random.uniform(0.5, 1.0)
                if tried > 1:  # one slow answer is not worth a word
                    self._say(f"{self.url}: {_reason(error)}; tries again in {wait:.0f} s ({tried} of {TRIES})")
                time.sleep(wait)
        raise AssertionError("unreachable")

    def _refuse(self, error: Exception) -> None:
        """Raise UserError for what no further try mends."""
        is_network = isinstance(error, ConnectionError | TimeoutError)
        if isinstance(error, OSError) and error.errno is not None and not is_network:
            raise error  # of this machine's disk: the library gives its own errors no number
        text, reason = str(error), _reason(error)
        if any(word in text for word in NO_BUCKET):
            raise UserError(f"{self.url}: there is no such bucket; make it, or name another") from None
        if any(word in text for word in FULL):
            raise UserError(f"{self.url}: the storage is full; free space there, and run the command again") from None
        is_refused = isinstance(error, self._errors.UnauthenticatedError) or "status code: 401" in text
        if is_refused or any(word in text for word in REFUSED):
            raise UserError(
                f"{self.url}: the storage does not take these credentials ({reason}); renew them and run the same"
                " command again, which goes on where it stopped"
            ) from None
        if "status code: 403" in text or isinstance(error, PermissionError):
            raise UserError(
                f"{self.url}: the storage does not allow this ({reason}); ask for the right to list, read and write"
                " there, or, to take finished stages alone from it, name it in store.upstream"
            ) from None
        if isinstance(error, OSError) and not is_network:
            raise error


def _interruptible(call: Callable[[], T]) -> T:
    """What `call` returns; Ctrl-C ends the wait for it. The library hears no signal before a request has ended."""
    if threading.current_thread() is not threading.main_thread():  # no signal comes there
        return call()
    ended: Future[T] = Future()

    def run() -> None:
        try:
            ended.set_result(call())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ended.result()


def _client(url: str) -> tuple[Any, Any]:
    """The library's store and its exceptions. Raises UserError where it is not installed, or makes nothing of it."""
    try:
        import obstore.exceptions
        from obstore.store import LocalStore, from_url
    except ImportError:
        raise UserError(f"{url}: stores in object storage need a package: pip install -e '.[cloud]'") from None
    parts = urlsplit(url)
    try:
        if parts.scheme == "file":
            return LocalStore(unquote(parts.path), mkdir=True), obstore.exceptions
        options: dict[str, Any] = {"timeout": TIMEOUT, "connect_timeout": CONNECT_TIMEOUT}
        # An endpoint without TLS was asked for by name; without this the library refuses it.
        options["allow_http"] = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        # No tries of its own: they are counted, and told, in one place.
        client: dict[str, Any] = {"client_options": options, "retry_config": {"max_retries": 0}}
        made = from_url(url, **client, **_profile(parts.scheme))
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise UserError(f"{url}: {_reason(error)}") from None
    return made, obstore.exceptions


def _profile(scheme: str) -> dict[str, Any]:
    """Where boto3 is installed, credentials as it finds them: profiles, single sign-on. Else as the library does.

    Raises ValueError where it finds none, or cannot read what it finds, such as a profile that is not there.
    """
    if scheme != "s3" or "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    with contextlib.suppress(ImportError):
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            session = boto3.Session()
            if session.get_credentials() is not None:
                return {"credential_provider": Boto3CredentialProvider(session)}
        except BotoCoreError as error:
            raise ValueError(str(error)) from None
        if "AWS_SKIP_SIGNATURE" not in os.environ:  # the library would look for a role of this machine for minutes
            raise ValueError(
                "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
    return {}


def _reason(error: Exception) -> str:
    """What the library says, in one short line without addresses, which may be signed."""
    text = str(error).partition("Debug source:")[0]
    if any(server in text for server in METADATA):
        return "no credentials are set, and none come from a role of this machine"
    found = re.search("<Code>(.*?)</Code>", text) or re.search(r"status code: (\d+ [A-Z][\w ]*\w)", text)
    said = found[1] if found else text.rpartition(" - ")[2]
    return " ".join(word for word in said.split() if "://" not in word)[:160] or type(error).__name__
