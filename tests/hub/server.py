"""A small Hub on loopback: enough of the protocol that the unmodified huggingface_hub client pushes to it and loads
from it.

What it answers and how follows the client's own source (huggingface_hub 2.4: hf_api.py, _commit_api.py, lfs.py,
file_download.py). Repositories and files lie on the disk (`storage.py`), so a test can look at them. Xet is not
spoken: clients need `HF_HUB_DISABLE_XET=1`.
"""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.hub.cards import card_metadata, validate_card
from tests.hub.storage import Repository, Storage

# Token -> whose it is, and whether it may write. Any other token is unknown.
WRITE_TOKEN, READ_TOKEN, OTHER_TOKEN = "hf_write", "hf_read", "hf_other"
USER, OTHER_USER = "tester", "stranger"
_TOKENS = {WRITE_TOKEN: (USER, True), READ_TOKEN: (USER, False), OTHER_TOKEN: (OTHER_USER, True)}

_IN_LFS = (".safetensors", ".bin", ".pt", ".model", ".onnx")
_ID = r"(?P<id>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"


class HubServer(ThreadingHTTPServer):
    """Serves on a free port of 127.0.0.1 while its `with` block lasts.

    Args:
        folder: where repositories and files lie.

    Attributes:
        url: for `HF_ENDPOINT`.
        storage: what has been pushed.
        requests: how often each kind of request (a method name of `_Handler`, such as "commit") was answered.
        unknown: requests that it does not speak, `METHOD path`.
    """

    daemon_threads = True

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.storage = Storage(folder)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: Counter[str] = Counter()
        self.unknown: list[str] = []
        self._down_before: str | None = None
        self._down_after = ""
        self._remaining: float = float("inf")
        self._lock = threading.Lock()

    @contextmanager
    def down(self, before: str = "", after: str = "", times: float = float("inf")) -> Iterator[None]:
        """Within the block, connections are closed without an answer.

        Args:
            before: only those that ask for this kind of request, e.g. "commit": the network breaks late in a push.
            after: only once this kind of request has been answered.
            times: after so many it is up again.
        """
        self._down_before, self._down_after, self._remaining = before, after, times
        try:
            yield
        finally:
            self._down_before = None

    def is_down(self, kind: str) -> bool:
        """Whether a request of this kind gets no answer; counts it if so."""
        with self._lock:
            hit = self._down_before in ("", kind) and not self._down_after and self._remaining > 0
            if hit:
                self._remaining -= 1
                self.requests["refused"] += 1
            return hit

    def count(self, kind: str) -> None:
        """Notes that a request of this kind is being answered."""
        with self._lock:
            self.requests[kind] += 1
            if kind == self._down_after:
                self._down_after = ""

    def __enter__(self) -> "HubServer":
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Refusal(Exception):
    """An answer other than 200, as the Hub words it."""

    def __init__(self, status: int, message: str, code: str = "", **body: Any):
        super().__init__(message)
        self.status, self.code, self.body = status, code, {"error": message, **body}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as the Hub keeps them
    server: HubServer

    def log_message(self, *arguments: Any) -> None:
        """Silent: tests look at `requests`."""

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        matches = [(name, re.fullmatch(pattern, path)) for method, pattern, name in _ROUTES if method == self.command]
        name, found = next((match for match in matches if match[1]), ("unknown", None))
        body = self._body()
        if self.server.is_down(name):
            self.close_connection = True
            return
        self.server.count(name)
        try:
            if found is None:
                self.server.unknown.append(f"{self.command} {path}")
                raise _Refusal(404, f"{self.command} {path} is not spoken here.")
            groups = {key: unquote(value or "") for key, value in found.groupdict().items()}
            answer: Callable[..., dict[str, Any] | list[Any] | None] = getattr(self, name)
            content = answer(body, **groups)
        except _Refusal as refusal:
            headers = {"X-Error-Message": str(refusal), **({"X-Error-Code": refusal.code} if refusal.code else {})}
            self._send(refusal.status, json.dumps(refusal.body).encode(), headers)
        else:
            if content is not None:
                self._send(200, json.dumps(content).encode())

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # Who asks, and what they may do

    def _user(self) -> tuple[str | None, bool]:
        given = self.headers.get("Authorization")
        if given is None:
            return None, False
        token = given.removeprefix("Bearer ")
        if token not in _TOKENS:
            raise _Refusal(401, "Invalid credentials in Authorization header")
        return _TOKENS[token]

    def _readable(self, id: str) -> Repository:
        user, _ = self._user()
        repository = self.server.storage.find(id)
        if repository is None or (repository.private and user != repository.owner):
            # The Hub doesn't tell strangers whether a private repository exists.
            raise _Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        return repository

    def _writable(self, id: str) -> Repository:
        repository = self._readable(id)
        user, may_write = self._user()
        if user is None:
            raise _Refusal(401, "Invalid username or password.")
        if user != repository.owner:
            raise _Refusal(403, "Forbidden: you don't have the rights to write to this repository")
        if not may_write:
            raise _Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        return repository

    # Requests

    def whoami(self, body: bytes) -> dict[str, Any]:
        user, may_write = self._user()
        if user is None:
            raise _Refusal(401, "Invalid username or password.")
        role = "write" if may_write else "read"
        return {"type": "user", "name": user, "orgs": [], "auth": {"accessToken": {"role": role}}}

    def create_repo(self, body: bytes) -> dict[str, Any]:
        wanted = json.loads(body)
        user, may_write = self._user()
        if user is None:
            raise _Refusal(401, "Invalid username or password.")
        owner = wanted.get("organization") or user
        if owner != user or not may_write:
            raise _Refusal(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        id = f"{owner}/{wanted['name']}"
        url = f"{self.server.url}/{id}"
        if not self.server.storage.create(id, private=wanted.get("visibility") == "private"):
            raise _Refusal(409, "You already created this model repo", url=url)
        return {"url": url, "name": id, "id": id}

    def auth_check(self, body: bytes, id: str, write: str) -> dict[str, Any]:
        (self._writable if write else self._readable)(id)
        return {}

    def model_info(self, body: bytes, id: str, revision: str) -> dict[str, Any]:
        repository = self._readable(id)
        sha = self._commit(repository, revision or "main")
        metadata = card_metadata(repository.text(sha, "README.md") or "")
        return {
            "id": id,
            "modelId": id,
            "author": repository.owner,
            "sha": sha,
            "private": repository.private,
            "siblings": [{"rfilename": path} for path in repository.files(sha)],
            "tags": metadata.get("tags") or [],
            "pipeline_tag": metadata.get("pipeline_tag"),
            "library_name": metadata.get("library_name"),
            "cardData": metadata,
        }

    def tree(self, body: bytes, id: str, revision: str, path: str) -> list[Any]:
        repository = self._readable(id)
        files = repository.files(self._commit(repository, revision))
        inside = {name: file for name, file in files.items() if not path or name.startswith(f"{path}/")}
        if path and not inside:
            raise _Refusal(404, f"{path} does not exist on {revision}", "EntryNotFound")
        return [
            {
                "type": "file",
                "path": name,
                "size": file.size,
                "oid": file.oid,
                **({"lfs": {"oid": file.oid, "size": file.size, "pointerSize": 134}} if file.lfs else {}),
            }
            for name, file in inside.items()
        ]

    def resolve(self, body: bytes, id: str, revision: str, path: str) -> None:
        repository = self._readable(id)
        sha = self._commit(repository, revision)
        file = repository.files(sha).get(path)
        if file is None:
            raise _Refusal(404, f"{path} does not exist on {revision}", "EntryNotFound")
        headers = {"ETag": f'"{file.oid}"', "X-Repo-Commit": sha}
        if file.lfs:
            headers |= {"X-Linked-ETag": f'"{file.oid}"', "X-Linked-Size": str(file.size)}
        self._send(200, repository.content(file), headers)

    def _commit(self, repository: Repository, revision: str) -> str:
        sha = repository.resolve(revision)
        if sha is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def validate_yaml(self, body: bytes) -> dict[str, Any]:
        errors = validate_card(json.loads(body)["content"])
        if errors:
            raise _Refusal(400, "Invalid metadata", errors=[{"message": error} for error in errors])
        return {"errors": [], "warnings": []}

    def preupload(self, body: bytes, id: str, revision: str) -> dict[str, Any]:
        repository = self._writable(id)
        files = repository.files(self._commit(repository, revision))
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(_IN_LFS) else "regular",
                    "shouldIgnore": False,
                    "oid": files[file["path"]].oid if file["path"] in files else None,
                }
                for file in json.loads(body)["files"]
            ]
        }

    def lfs_batch(self, body: bytes, id: str) -> dict[str, Any]:
        self._writable(id)
        objects = []
        for item in json.loads(body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if not self.server.storage.has(item["oid"]):
                answer["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{item['oid']}"}}
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, body: bytes, oid: str) -> dict[str, Any]:
        try:
            self.server.storage.put(body, oid)
        except ValueError as error:
            raise _Refusal(400, str(error)) from error
        return {}

    def commit(self, body: bytes, id: str, revision: str) -> dict[str, Any]:
        repository = self._writable(id)
        parent = self._commit(repository, revision)
        lines = [json.loads(line) for line in body.splitlines()]
        try:
            sha = repository.commit(parent, revision, lines)
        except ValueError as error:
            raise _Refusal(400, str(error)) from error
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{id}/commit/{sha}"}


_ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create_repo"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("GET", rf"/api/models/{_ID}/auth-check(?P<write>/write)?", "auth_check"),
    ("GET", rf"/api/models/{_ID}/tree/{_REVISION}(?:/(?P<path>.+))?", "tree"),
    ("GET", rf"/api/models/(?P<id>[^/]+(?:/(?!revision/)[^/]+)?)(?:/revision/{_REVISION})?", "model_info"),
    ("POST", rf"/api/models/{_ID}/preupload/{_REVISION}", "preupload"),
    ("POST", rf"/api/models/{_ID}/commit/{_REVISION}", "commit"),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    ("GET", rf"/{_ID}/resolve/{_REVISION}/(?P<path>.+)", "resolve"),
    ("HEAD", rf"/{_ID}/resolve/{_REVISION}/(?P<path>.+)", "resolve"),
]
