"""Pure ASGI layers around the routes, from the outermost to the innermost.

``RequestContext`` names and records a request, ``AnswerProblems`` turns errors into answers, ``HeadAsGet``,
``SameSiteWrites``, ``RequireKey`` and ``BodyLimit`` stand before the routes. (CORS, where it is set, comes second.)
"""

import asyncio
import logging
import random
import re
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.keys import KeyRing
from app.logs import Log, with_fields
from app.problems import Problem, as_problem, problem_response
from app.roles import PROBED, SAFE_METHODS, Role, needed_role
from app.tracing import describe_request

if TYPE_CHECKING:
    from app.runtime import Runtime

log = Log(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
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
    """Gives each request an id and each answer the security headers; logs and counts how it ended."""

    def __init__(self, app: ASGIApp, runtime: "Runtime") -> None:
        self.app = app
        self._runtime = runtime
        self._ids = random.Random()  # noqa: S311 - an id tells requests apart, so one look at the system's will do

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = self._request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id
        describe_request({"request_id": request_id})
        method = scope["method"]
        started = time.perf_counter()
        status: int | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if "problem" in scope["state"]:
                    describe_request({"problem": scope["state"]["problem"]})
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if self._runtime.draining:
                    headers["Connection"] = "close"
            await send(message)

        with with_fields(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_headers)
            finally:
                self._record(scope, method, status, time.perf_counter() - started)

    def _request_id(self, headers: Headers) -> str:
        sent = headers.get("x-request-id", "")
        return sent if REQUEST_ID.fullmatch(sent) else f"{self._ids.getrandbits(128):032x}"

    def _record(self, scope: Scope, method: str, status: int | None, seconds: float) -> None:
        """The route's template stands for the path, which may hold what a user wrote."""
        route = getattr(scope.get("route"), "path", "")
        code = scope["state"].get("problem")
        self._runtime.metrics.record_request(method=method, route=route, status=status, problem=code, seconds=seconds)
        problem = {} if code is None else {"problem": code}
        took_ms = round(seconds * 1000, 1)
        level = logging.DEBUG if route in PROBED else logging.INFO
        log.log(level, "request_finished", method=method, route=route, status=status, took_ms=took_ms, **problem)


class AnswerProblems:
    """Answers each error with its problem body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except ClientDisconnect:
            return  # there is nobody to answer
        except Exception as error:
            if has_begun:  # half an answer is out: only the server can break it off
                log.exception("response_broken")
                raise
            problem = _foreseen(error)
            scope["state"]["problem"] = problem.code
            await problem_response(problem, scope["state"]["request_id"])(scope, receive, send)


class HeadAsGet:
    """Answers HEAD as GET without the body, on every route that answers GET; a stream ends with its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        begun = asyncio.Event()
        asked = ended = False

        async def receive_head() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return await receive()
            await begun.wait()  # a caller that wants no body leaves with the headers
            return {"type": "http.disconnect"}

        async def send_head(message: Message) -> None:
            nonlocal ended
            begun.set()
            if message["type"] == "http.response.body":
                ended = not message.get("more_body", False)
                message = {**message, "body": b""}
            await send(message)

        scope["method"] = "GET"  # in the same scope: the router leaves the route's template there for the log
        await self.app(scope, receive_head, send_head)
        if not ended:
            await send({"type": "http.response.body"})


class SameSiteWrites:
    """Refuses what a page of another site makes the browser of somebody near this service send to it."""

    def __init__(self, app: ASGIApp, origins: Collection[str] = ()) -> None:
        self.app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            site = headers.get("sec-fetch-site", "none")
            if site not in ("none", "same-origin") and headers.get("origin") not in self._origins:
                expected = (
                    "a request from this service's own page, from an origin that its settings allow or from no page"
                )
                raise Problem("forbidden", f"expected {expected}, found {site}")
        await self.app(scope, receive, send)


class RequireKey:
    """Refuses requests without a key for what they ask, before a byte of the body is read; without keys, none."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self.app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] == "http" and self._keys:
            needed = needed_role(scope["method"], scope["path"])
            if needed is not None:
                self._check(Headers(scope=scope), needed)
        await self.app(scope, receive, send)

    def _check(self, headers: Headers, needed: Role) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        role = self._keys.role_of(key.strip()) if scheme.lower() == "bearer" else None
        if role is None:
            found = "one that this service does not know" if key else "none"
            detail = f"expected `Authorization: Bearer KEY`, found {found}; ask whoever runs the service for a key"
            raise Problem("unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        if not role.covers(needed):
            raise Problem("forbidden", f"expected a key with the role {needed}, found one with the role {role}")


class BodyLimit:
    """Refuses a body above the limit, by its declared length or as soon as it has grown past, and one that dawdles."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, deadline_s: float) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.deadline_s = deadline_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI call."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > self.max_body_bytes:
            raise self._too_large(f"{int(declared):,}")
        read, until = 0, asyncio.get_running_loop().time() + self.deadline_s
        is_whole = False

        async def receive_counted() -> Message:
            nonlocal read, is_whole
            try:
                async with asyncio.timeout_at(None if is_whole else until):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            if message["type"] == "http.request":
                is_whole = not message.get("more_body", False)
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

    def _too_slow(self) -> HTTPException:
        detail = f"expected the whole body within {self.deadline_s:g} s, found a part of it; send less in one call"
        return HTTPException(504, detail, headers={"Connection": "close"})


def _foreseen(error: Exception) -> Problem:
    problem = as_problem(error)
    if problem is None:
        log.error("request_failed", exc_info=error)
        return Problem("internal", "the service failed on this request; its log has the reason under the request id")
    if problem.code in ("not_ready", "device_out_of_memory") and not isinstance(error, Problem):
        log.warning("request_refused", problem=problem.code, reason=str(error))  # the answer does not tell it
    return problem
