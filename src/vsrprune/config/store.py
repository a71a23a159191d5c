"""The group `store`: where finished stages lie beside `store_dir`, how long things hold, and housekeeping."""

from __future__ import annotations

from dataclasses import dataclass

from vsrprune.errors import UserError
from vsrprune.knobs import knob
from vsrprune.store.bucket import check_url, is_url
from vsrprune.store.store import is_key

MOVING = ("push", "pull")


@dataclass
class StoreConfig:
    """Housekeeping instead of a job; stores in object storage; how long a silent process keeps its stage."""

    action: str = knob(
        "",
        "Look after the store instead of running a job: list it, verify all checksums, clean what no result in runs_dir"
        " needs, push finished stages to store.remote, or pull them from there.",
        choices=("", "list", "verify", "clean", *MOVING),
    )
    yes: bool = knob(False, "true lets store.action=clean delete.")
    remote: str = knob("", "The other store of push and pull: s3://BUCKET/PREFIX, gs://, az:// or file:///FOLDER.")
    only: list[str] = knob([], "Push or pull these alone: keys of stages, or names of stages such as pretrain.")
    upstream: str = knob(
        "", "A store in object storage that finished stages are taken from, and that nothing is written to."
    )
    cache_dir: str = knob(
        "",
        "Of a store in object storage: the folder of this machine for what was fetched. Empty: in the user's folder of"
        " caches.",
    )
    cache_gb: float = knob(50.0, "So much is kept there; what was not used for longest goes first.", above=0)
    mirror_minutes: float = knob(
        5.0, "Minutes between two checkpoints that go to object storage, for another machine to go on from.", above=0
    )
    lease_seconds: float = knob(60.0, "A stage is free when its holder has been silent for so many seconds.", above=0)


def check_store(store: StoreConfig, store_dir: str) -> None:
    """Raise UserError for places that cannot be stores, and for what push and pull lack."""
    if is_url(store_dir):
        check_url("store_dir", store_dir)
    for name, url in (("store.remote", store.remote), ("store.upstream", store.upstream)):
        if url and not is_url(url):
            raise UserError(f"{name}={url}: it is a store in object storage, such as s3://BUCKET/PREFIX")
        if url:
            check_url(name, url)
        if url and url.rstrip("/") == store_dir.rstrip("/"):
            raise UserError(f"{name}={url} is store_dir itself; name another")
    if store.action in MOVING and is_url(store_dir):
        raise UserError(
            f"store.action={store.action} is between a folder and object storage, and store_dir={store_dir} is no"
            " folder; name a folder as store_dir, and this as store.remote"
        )
    if store.action in MOVING and not store.remote:
        raise UserError(f"store.action={store.action} needs the other store: store.remote=s3://BUCKET/PREFIX")
    for given, name in ((store.remote, "store.remote"), (store.only, "store.only")):
        if given and store.action not in MOVING:
            raise UserError(f"{name} is of store.action=push and pull; with a store to work in, it is store_dir")


def check_only(only: list[str], stages: tuple[str, ...]) -> None:
    """Raise UserError for a name in `store.only` that is neither a key nor one of the stages."""
    for name in only:
        if not is_key(name) and name not in stages:
            raise UserError(
                f"store.only: {name} is neither a key (16 hex digits, as store.action=list shows them) nor a stage:"
                f" {', '.join(stages)}"
            )
