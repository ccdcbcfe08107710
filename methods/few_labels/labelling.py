"""A page on this machine on which a person clicks the class of each suggested picture.

It is served at 127.0.0.1 alone, under an address with a token that only the terminal shows; requests that name another host, or
that come from another site's page, are refused. Pictures are asked for by number, so no path leaves the folder.
"""
import hmac
import http.server
import json
import pathlib
import re
import secrets
import socketserver
import sys
from typing import Any

import numpy as np

from minigrad.data.folder import counted, printable

from .answer import Answer, answer
from .label_queue import LabelQueue
from .report import jpeg

PAGE = pathlib.Path(__file__).with_name("labelling.html")
PICTURE = 480  # pixels of the longer side
LONGEST = 10_000  # bytes of a request
HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
           "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
                                      "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                                      "frame-ancestors 'none'"}


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """The page of a queue of pictures. Args: port: 0 for any.

    Attributes:
        address: of the page, with the token.
    """

    daemon_threads = True

    def __init__(self, queue: LabelQueue, port: int = 0):
        self.queue, self.token = queue, secrets.token_urlsafe(24)
        super().__init__(("127.0.0.1", port), Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.address = f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """As HTTPServer's, without asking a name server for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """As HTTPServer's, but silent on a browser that went away, as on each reload."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """GET: the page, its state, pictures by number. POST: label, skip, undo."""

    server: Server
    timeout = 30
    server_version, sys_version = "few_labels", ""

    def do_GET(self) -> None:
        """The page at the token, `state`, and `picture/NUMBER`."""
        path = self._path()
        if path is None:
            return
        queue = self.server.queue
        try:
            if path == "":
                self._send(PAGE.read_bytes(), "text/html; charset=utf-8")
            elif path == "state":
                self._json(queue.state())
            elif (found := re.fullmatch(r"picture/(\d{1,9})", path, re.ASCII)) and int(found[1]) < len(queue.folder.files):
                self._send(jpeg(queue.folder, int(found[1]), PICTURE), "image/jpeg")
            else:
                self._refuse(404, "there is nothing")
        except ValueError as error:
            self._refuse(404, str(error))

    def do_POST(self) -> None:
        """`label` with {picture, class}, `skip` with {picture}, `undo`; the answer is the new state."""
        path = self._path()
        if path is None:
            return
        try:
            length = int(self.headers.get("Content-Length", ""))
            if self.headers.get_content_type() != "application/json" or not 0 <= length <= LONGEST:
                raise ValueError("JSON of up to 10,000 bytes is wanted")
            request = json.loads(self.rfile.read(length) or b"{}")
            self._act(path, request if isinstance(request, dict) else {})
        except (ValueError, RecursionError) as error:
            self._refuse(400, str(error))
        except OSError as error:
            self._refuse(500, f"it could not be written: {error}")

    def _act(self, path: str, request: dict[str, Any]) -> None:
        queue = self.server.queue
        if path == "undo":
            queue.undo()
        elif path in ("label", "skip"):
            place = request.get("picture")
            if type(place) is not int or not 0 <= place < len(queue.folder.files):
                raise ValueError("picture is the number of a picture")
            if path == "skip":
                queue.skip(place)
            else:
                queue.label(place, request.get("class"))
        else:
            self._refuse(404, "there is nothing")
            return
        self._json(queue.state())

    def _path(self) -> str | None:
        """What is asked for, below the token; None if the request was refused."""
        origin = self.headers.get("Origin")
        token, _, rest = self.path.removeprefix("/").partition("?")[0].partition("/")
        if self.headers.get("Host") not in self.server.hosts:
            self._refuse(403, "another host")
        elif origin is not None and origin.removeprefix("http://") not in self.server.hosts:
            self._refuse(403, "another origin")
        elif not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(403, "the address is without its token; take the whole line that the terminal shows")
        else:
            return rest
        return None

    def _json(self, value):
        self._send(json.dumps(value).encode(), "application/json")

    def _refuse(self, status, reason):
        self.close_connection = True
        self._send(reason.encode(), "text/plain; charset=utf-8", status)

    def _send(self, content, kind, status=200):
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: the token would be in it."""


class Live:
    """Suggestions while a person labels: those of an answer, then those of a new answer from all labels so far."""

    def __init__(self, first: Answer, count: int, seed: int):
        self.answer, self.count, self.seed, self.first = first, count, seed, True

    def suggest(self) -> np.ndarray:
        """Places of pictures, most worth first."""
        if not self.first:
            self.answer = answer(self.answer.folder, self.answer.features, self.count, self.seed)
        self.first = False
        return self.answer.suggested

    def guess(self, place: int) -> str:
        """The most probable class of a picture; empty if there is none."""
        if self.answer.chosen is None:
            return ""
        return self.answer.classes[self.answer.probabilities(np.array([place])).argmax()]


def serve(first: Answer, suggest: int, seed: int, classes: tuple[str, ...], port: int, move: bool) -> None:
    """Serves the page to label on until Ctrl-C.

    Args:
        first: with the first suggestions; suggest: how many later ones have.
        classes: valid names (`label_log.class_name`); move: as of a `LabelQueue`; port: as of a `Server`.
    """
    live = Live(first, suggest, seed)
    queue = LabelQueue(first.folder, live.suggest, live.guess, classes, move=move)
    with Server(queue, port) as server:
        if move and (fixed := sum(not queue.movable(i) for i in first.folder.unlabelled)):
            print(f"--move: {counted(fixed, first.folder.what)} in a zip, a table or a linked folder will stay there; what is "
                  f"clicked of these is in {printable(str(first.folder.log))} alone")
        print(f"open this on this machine, and stop with Ctrl-C: {server.address}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            given = counted(len(queue.clicks), "label was", "labels were")
            print(f"\n{given} given; the same command without --label gives the new answer")
