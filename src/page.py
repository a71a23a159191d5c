"""A page in the browser: bicubic, the dense and the pruned network of a finished job side by side on a clip.

python src/page.py                   jobs below runs/
python src/page.py runs/demo         those of one sweep

The page is for this machine alone: it listens on 127.0.0.1, and nothing is asked of the network.
"""

from __future__ import annotations

import argparse
import errno
import signal
import socket
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from vsrprune.cli import complain
from vsrprune.commands import CommandParser
from vsrprune.errors import UserError
from vsrprune.page.finished import finished_jobs
from vsrprune.store.bucket import is_url
from vsrprune.store.places import local_folder, open_place

PORT = 7860
MOST_PORT = 65535


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("runs", type=Path, nargs="*", default=[Path("runs")], help="folders of finished jobs (default: runs)")
    add("--store", default="store", help="the store that holds the jobs' networks (default: store)")
    add("--port", type=int, default=PORT, help=f"where the page listens ({PORT}); 0 for any that is free")
    add("--no-browser", action="store_true", help="print the address, and open no browser")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the page until Ctrl-C; 0, or 2 after one line about what was given."""
    given = parse(arguments)
    try:
        jobs = finished_jobs(given.runs)
        if is_url(given.store):
            open_place(given.store, print)  # what cannot be one is told now, not at the first comparison
        elif not local_folder(given.store).is_dir():
            raise UserError(f"--store {given.store}: there is no such folder; give the store that the jobs used")
        listening = _listen(given.port)
    except UserError as error:
        return complain(str(error))
    try:
        import uvicorn

        from vsrprune.page.dropped import Clips
        from vsrprune.page.server import LOOPBACK, Page
        from vsrprune.page.work import Worker
    except ImportError as error:
        return complain(f"the page needs {error.name}: pip install '.[page]' installs it")
    signal.signal(signal.SIGTERM, _terminate)
    with listening, tempfile.TemporaryDirectory(prefix="vsrprune-page-", ignore_cleanup_errors=True) as temporary:
        clips, made = Path(temporary, "clips"), Path(temporary, "made")
        clips.mkdir()
        made.mkdir()
        worker = Worker(made)
        app = Page(jobs, given.store, Clips(clips), made, worker).app()
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        address = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        print(f"{len(jobs)} jobs at {address} (Ctrl-C ends it)", flush=True)
        if not given.no_browser:
            webbrowser.open(address)
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            print("ended; what it made is removed")
        finally:
            worker.close()
    return 0


def _listen(port: int) -> socket.socket:
    """A socket on this machine's own address. Raises UserError where the port cannot be had."""
    if not 0 <= port <= MOST_PORT:
        raise UserError(f"--port must be from 0 to {MOST_PORT}; got {port}")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a page that ended just now does not block it
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError as error:
        listening.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise UserError(f"--port {port} {reason}; give another, or 0 for any that is free") from error
    return listening


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
