"""Repositories of the tests' Hub, on the disk.

`objects/<oid>` are files by content; `repositories/<owner>/<name>.json` holds branches and commits. A commit counts
when that file has been replaced, all at once.
"""

import base64
import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StoredFile:
    """Content of one file of a commit.

    Args:
        oid: SHA-256 if it is in LFS, else the SHA-1 that git gives it.
        size: in bytes.
        lfs: whether it is in LFS.
    """

    oid: str
    size: int
    lfs: bool


class Storage:
    """All repositories.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.objects = folder / "objects"
        self.objects.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()

    def _path(self, id: str) -> Path:
        return self.folder / "repositories" / f"{id}.json"

    def find(self, id: str) -> "Repository | None":
        """The repository `owner/name`, or `None`."""
        return Repository(self, id) if self._path(id).is_file() else None

    def __getitem__(self, id: str) -> "Repository":
        repository = self.find(id)
        if repository is None:
            raise KeyError(id)
        return repository

    def create(self, id: str, private: bool = False) -> bool:
        """Makes an empty repository; False if there is one already."""
        with self.lock:
            if self._path(id).is_file():
                return False
            first = {"parent": None, "message": "initial commit", "files": {}}
            sha = _commit_id(first)
            self.save(id, {"private": private, "branches": {"main": sha}, "commits": {sha: first}})
            return True

    def load(self, id: str) -> dict[str, Any]:
        """What is known of a repository."""
        return json.loads(self._path(id).read_text(encoding="utf-8"))

    def save(self, id: str, state: dict[str, Any]) -> None:
        """Replaces what is known of a repository, at once."""
        path = self._path(id)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(state, indent=1), encoding="utf-8")
        os.replace(aside, path)

    def has(self, oid: str) -> bool:
        """Whether an object has arrived whole."""
        return (self.objects / oid).is_file()

    def put(self, content: bytes, oid: str) -> None:
        """Keeps an LFS object.

        Raises:
            ValueError: it is not what its name says.
        """
        if hashlib.sha256(content).hexdigest() != oid:
            raise ValueError(f"Content of {oid} has another SHA-256.")
        self._write(content, oid)

    def put_blob(self, content: bytes) -> str:
        """Keeps a small file; its git object name."""
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self._write(content, oid)
        return oid

    def _write(self, content: bytes, oid: str) -> None:
        aside = self.objects / f".{oid}-{threading.get_ident()}"
        aside.write_bytes(content)
        os.replace(aside, self.objects / oid)


class Repository:
    """One repository; `Storage.find` gives it."""

    def __init__(self, storage: Storage, id: str):
        self.storage, self.id = storage, id

    @property
    def owner(self) -> str:
        """User it belongs to."""
        return self.id.split("/")[0]

    @property
    def private(self) -> bool:
        """Whether only its owner sees it."""
        return self.storage.load(self.id)["private"]

    @property
    def head(self) -> str:
        """Newest commit of `main`."""
        return self.storage.load(self.id)["branches"]["main"]

    @property
    def messages(self) -> list[str]:
        """Of `main`'s commits, oldest first."""
        state, messages = self.storage.load(self.id), []
        sha = state["branches"]["main"]
        while sha is not None:
            messages.append(state["commits"][sha]["message"])
            sha = state["commits"][sha]["parent"]
        return messages[::-1]

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch or commit id names."""
        state = self.storage.load(self.id)
        sha = state["branches"].get(revision, revision)
        return sha if sha in state["commits"] else None

    def files(self, sha: str | None = None) -> dict[str, StoredFile]:
        """Files of a commit by path; of the newest by default."""
        state = self.storage.load(self.id)
        files = state["commits"][sha or state["branches"]["main"]]["files"]
        return {path: StoredFile(**file) for path, file in sorted(files.items())}

    def content(self, file: StoredFile) -> bytes:
        """What is in a file."""
        return (self.storage.objects / file.oid).read_bytes()

    def text(self, sha: str, path: str) -> str | None:
        """A file as text; `None` if the commit has none of that name."""
        file = self.files(sha).get(path)
        return None if file is None else self.content(file).decode("utf-8")

    def commit(self, parent: str, branch: str, lines: list[dict[str, Any]]) -> str:
        """Adds a commit from the lines of the client's ndjson; all of it or nothing.

        Raises:
            ValueError: the branch has moved, an LFS file never arrived, or a line is of unknown kind.
        """
        header, *operations = lines
        with self.storage.lock:
            state = self.storage.load(self.id)
            if state["branches"].get(branch) != parent:
                raise ValueError(f"{branch} has moved since.")
            files = dict(state["commits"][parent]["files"])
            for operation in operations:
                kind, value = operation["key"], operation["value"]
                if kind == "file":
                    content = base64.b64decode(value["content"])
                    file = StoredFile(self.storage.put_blob(content), len(content), lfs=False)
                    files[value["path"]] = asdict(file)
                elif kind == "lfsFile":
                    if not self.storage.has(value["oid"]):
                        raise ValueError(f"LFS object of {value['path']} was never uploaded.")
                    files[value["path"]] = asdict(StoredFile(value["oid"], value["size"], lfs=True))
                elif kind == "deletedFile":
                    del files[value["path"]]
                else:
                    raise ValueError(f"{kind!r} is no operation of a commit.")
            commit = {"parent": parent, "message": header["value"]["summary"], "files": files}
            sha = _commit_id(commit)
            state["commits"][sha] = commit
            state["branches"][branch] = sha
            self.storage.save(self.id, state)
            return sha


def _commit_id(commit: dict[str, Any]) -> str:
    return hashlib.sha1(json.dumps(commit, sort_keys=True).encode()).hexdigest()
