"""Pure ASGI layers around the routes, outermost first: ``RequestContext``, ``SameSiteWrites``, ``BodyLimit``."""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import Problem, as_problem, problem_response

log = structlog.get_logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RequestContext:
    """Gives each request an id, each answer the security headers, each error a problem body, and logs the end."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_headers)
            except Exception as error:
                if status is not None:  # half an answer is out: only the server can break it off
                    log.exception("response_broken")
                    raise
                await problem_response(_foreseen(error), request_id)(scope, receive, send_with_headers)
            finally:
                took_ms = round((time.perf_counter() - started) * 1000, 1)
                log.info("request_finished", **_describe(scope), status=status, took_ms=took_ms)


class SameSiteWrites:
    """Refuses what a page of another site makes the browser of somebody near this service send to it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            site = Headers(scope=scope).get("sec-fetch-site", "none")
            if site not in ("none", "same-origin"):
                raise Problem("forbidden", f"expected a request from this service's own page or no page, found {site}")
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses a body above the limit: by its declared length before a byte is read, or as soon as it has grown past."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_body_bytes:
            raise self._too_large(f"{int(declared):,}")
        read = 0

        async def receive_counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self.max_body_bytes:
                    raise self._too_large("more than that")
            return message

        await self.app(scope, receive_counted, send)

    def _too_large(self, found: str) -> HTTPException:
        # an HTTPException, because the framework lets only that pass out of its body parsers; the rest of the body
        # is not read, so the connection cannot be used again
        detail = f"expected a body of at most {self.max_body_bytes:,} bytes, found {found}; send less in one call"
        return HTTPException(413, detail, headers={"Connection": "close"})


def _request_id(headers: Headers) -> str:
    sent = headers.get("x-request-id", "")
    return sent if REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def _foreseen(error: Exception) -> Problem:
    problem = as_problem(error)
    if problem is None:
        log.error("request_failed", exc_info=error)
        return Problem("internal", "the service failed on this request; its log has the reason under the request id")
    if problem.code in ("not_ready", "device_out_of_memory"):
        log.warning("request_refused", code=problem.code, reason=str(error))
    return problem


def _describe(scope: Scope) -> dict[str, str]:
    """Method and route template: the path itself may hold what a user wrote."""
    return {"method": scope["method"], "route": getattr(scope.get("route"), "path", "")}
