"""What the page asks for, and what it is answered. Only this machine is answered, and only the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vsrprune.errors import UserError
from vsrprune.page.dropped import DEMO, Clips
from vsrprune.page.finished import Finished
from vsrprune.page.work import Attempt, Worker, explained_error

if TYPE_CHECKING:
    from vsrprune.use.beside import Beside, BesideRequest

LOOPBACK = "127.0.0.1"
HOSTS = (LOOPBACK, "localhost")  # a page from elsewhere whose name leads here gets no answer
STATIC = Path(__file__).parent / "static"
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Page:
    """The page's answers: of `jobs`, whose networks lie in `store`, on clips in `clips`; results lie in `made`."""

    jobs: Sequence[Finished]
    store: str | Path
    clips: Clips
    made: Path
    worker: Worker

    def app(self) -> Starlette:
        """The application."""
        routes = [
            Route("/", self.index),
            Route("/jobs", self.listed),
            Route("/state", self.state),
            Route("/clips", self.new_clip, methods=["POST"]),
            Route("/clips/{clip}/{name}", self.add_file, methods=["PUT"]),
            Route("/clips/{clip}/first.png", self.first_picture),
            Route("/runs", self.start, methods=["POST"]),
            Route("/cancel", self.cancel, methods=["POST"]),
            Route("/runs/{run}/{kind}/{index:int}.png", self.picture),
            Route("/runs/{run}/video", self.video),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        return Starlette(
            routes=routes,
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)), Middleware(OwnPageOnly)],
            exception_handlers={UserError: _refused, OSError: _refused},
        )

    async def index(self, request: Request) -> Response:
        """The page."""
        return FileResponse(STATIC / "index.html")

    async def listed(self, request: Request) -> Response:
        """The jobs, the newest first, and the demo's clips."""
        return JSONResponse({"jobs": [_job(job) for job in self.jobs], "demo": DEMO})

    async def state(self, request: Request) -> Response:
        """How far the last comparison is, and what it found."""
        return JSONResponse(self._described(self.worker.run))

    async def new_clip(self, request: Request) -> Response:
        """A place for the files of a clip."""
        run = self.worker.run
        keep = run.clip if run and run.state == "running" else ""
        return JSONResponse({"clip": await run_in_threadpool(self.clips.new, keep)})

    async def add_file(self, request: Request) -> Response:
        """A file of a clip, as the body."""
        await self.clips.add(request.path_params["clip"], request.path_params["name"], request.stream())
        return JSONResponse({})

    async def first_picture(self, request: Request) -> Response:
        """The first frame of a demo clip."""
        clip = request.path_params["clip"]
        if clip not in DEMO:
            raise HTTPException(404)
        source = await run_in_threadpool(self.clips.source, clip)  # the first one is rendered, which takes seconds
        return FileResponse(source / "00000.png")

    async def start(self, request: Request) -> Response:
        """Begin a comparison."""
        asked = await request.json()
        job = next((job for job in self.jobs if job.name == asked["job"]), None)
        if job is None:
            raise UserError(f"there is no job {asked['job']!r}; load the page again")
        source = await run_in_threadpool(self.clips.source, asked["clip"])

        def wanted(folder: Path) -> BesideRequest:
            from vsrprune.use.beside import BesideRequest

            return BesideRequest(source, job.folder, self.store, folder, int(asked["frames"]), bool(asked["as_truth"]))

        return JSONResponse(self._described(self.worker.start(job.name, asked["clip"], wanted)))

    async def cancel(self, request: Request) -> Response:
        """End the comparison that runs."""
        self.worker.cancel()
        return JSONResponse({})

    async def picture(self, request: Request) -> Response:
        """A frame of a comparison."""
        run, kind, index = (request.path_params[name] for name in ("run", "kind", "index"))
        # Read at once: the next comparison may remove it while it is sent.
        pixels = await run_in_threadpool(_content, self._made(run, f"{kind}/{index:05d}.png"))
        return Response(pixels, media_type="image/png")

    async def video(self, request: Request) -> Response:
        """The pruned network's video, to be saved."""
        from vsrprune.use.beside import VIDEO

        return FileResponse(self._made(request.path_params["run"], VIDEO), filename=VIDEO)

    def _made(self, run: str, name: str) -> Path:
        path = (self.made / run / name).resolve()
        if not path.is_relative_to(self.made.resolve()) or not path.is_file():
            raise HTTPException(404)
        return path

    def _described(self, run: Attempt | None) -> dict[str, Any]:
        if run is None:
            return {"state": "none"}
        place = f"{self.clips.folder / run.clip}"
        known = {name: getattr(run, name) for name in ("name", "job", "state", "stage", "done", "total")}
        error = run.error.replace(f"{place}/", "").replace(place, "the clip")
        found = None if run.found is None else _found(run.found)
        if found is not None:
            found["notes"] = [note.replace(f"{place}/", "").replace(place, "the clip") for note in found["notes"]]
        return {**known, "error": error, "found": found}


class OwnPageOnly:
    """Refuses what pages of other origins send, and adds HEADERS to every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, as an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers.get('host')}":
            await JSONResponse({"error": "only the page itself is answered"}, 403)(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise HTTPException(404) from error


def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": explained_error(error)}, 400)


def _job(job: Finished) -> dict[str, Any]:
    result = job.result
    return {
        "name": job.name,
        "ended": job.ended,
        "psnr": result.quality["finetuned"].psnr,
        "dense": result.quality["dense"].psnr,
        "baseline": result.quality["baseline"].psnr,
        "macs": result.cost["pruned"].macs,
        "kept": result.macs_kept,
        "model": result.knobs["model"]["name"],
        "task": result.knobs["task"]["name"],
        "scale": result.scale,
    }


def _found(found: Beside) -> dict[str, Any]:
    columns = {
        kind: {
            **asdict(column),
            "mean_psnr": fmean(column.psnr) if column.psnr else None,
            "mean_ssim": fmean(column.ssim) if column.ssim else None,
        }
        for kind, column in found.columns.items()
    }
    return {**asdict(found), "columns": columns, "speed_up": found.speed_up}
