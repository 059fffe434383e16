"""The tests' Hub answers as the client expects of the real one: who may do what, and that a commit is whole."""

import pytest

from tests.hub.cards import validate_card
from tests.hub.client import Client
from tests.hub.server import OTHER_TOKEN, READ_TOKEN, USER, WRITE_TOKEN, HubServer


def access(repo: str) -> dict:
    """What the client's token may do with a repository: the kinds of its errors."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api, results = HfApi(), {}
    calls = {
        "whoami": lambda: api.whoami()["name"],
        "read": lambda: api.model_info(repo).id,
        "write": lambda: api.auth_check(repo, write=True),
        "commit": lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo).commit_message,
        "create": lambda: api.create_repo(repo).repo_id,
    }
    for name, call in calls.items():
        try:
            results[name] = call()
        except (HfHubHTTPError, LocalTokenNotFoundError) as error:
            response = getattr(error, "response", None)
            results[name] = f"{type(error).__name__} {getattr(response, 'status_code', '')}".strip()
    return results


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (WRITE_TOKEN, [USER, "{repo}", None, "Upload x.txt with huggingface_hub", "HfHubHTTPError 409"]),
        (READ_TOKEN, [USER, "{repo}", "HfHubHTTPError 403", "HfHubHTTPError 403", "HfHubHTTPError 403"]),
        (OTHER_TOKEN, ["stranger", *["RepositoryNotFoundError 404"] * 3, "HfHubHTTPError 403"]),
        ("hf_wrong", ["HfHubHTTPError 401"] * 5),
        (None, ["LocalTokenNotFoundError", *["RepositoryNotFoundError 401"] * 3, "HfHubHTTPError 401"]),
    ],
    ids=["owner", "reader", "stranger", "unknown", "nobody"],
)
def test_private_repository_by_token(hub: HubServer, client: Client, token: str | None, expected: list) -> None:
    repo = f"{USER}/private-{token or 'none'}".replace("_", "-")
    hub.storage.create(repo, private=True)
    found = client.run(access, token=token, repo=repo)
    assert list(found.values()) == [repo if value == "{repo}" else value for value in expected]
    assert len(hub.storage[repo].files()) == (token == WRITE_TOKEN)


def round_trip(repo: str) -> dict:
    """Two commits and their contents, read back in every way."""
    from pathlib import Path

    from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download

    api = HfApi()
    api.create_repo(repo, private=True)
    api.create_repo(repo, exist_ok=True)
    files = {
        "config.json": b"{}",
        "deep/er/text.txt": "h\u00e9".encode(),
        "weights.safetensors": bytes(range(256)) * 99,
    }
    first = api.create_commit(repo, [CommitOperationAdd(*item) for item in files.items()], commit_message="first")
    api.upload_file(path_or_fileobj=b"new", path_in_repo="config.json", repo_id=repo, commit_message="second")
    api.delete_file("deep/er/text.txt", repo, commit_message="third")
    old = hf_hub_download(repo, "config.json", revision=first.oid)
    folder = Path(snapshot_download(repo))
    return {
        "old": Path(old).read_text(),
        "new": {path.name: len(path.read_bytes()) for path in sorted(folder.iterdir())},
        "listed": sorted(api.list_repo_files(repo)),
        "whole": (folder / "weights.safetensors").read_bytes() == files["weights.safetensors"],
        "exists": [api.file_exists(repo, "config.json"), api.file_exists(repo, "none"), api.repo_exists("a/b")],
    }


def test_commits_and_downloads(hub: HubServer, client: Client) -> None:
    found = client.run(round_trip, repo=f"{USER}/round-trip")
    assert found == {
        "old": "{}",
        "new": {"config.json": 3, "weights.safetensors": 256 * 99},
        "listed": ["config.json", "weights.safetensors"],
        "whole": True,
        "exists": [True, False, False],
    }
    repository = hub.storage[f"{USER}/round-trip"]
    assert repository.messages == ["initial commit", "first", "second", "third"] and repository.private
    assert {path: file.lfs for path, file in repository.files().items()} == {
        "config.json": False,
        "weights.safetensors": True,
    }
    assert not [request for request in hub.unknown if "round-trip" in request]


def upload(repo: str, files: dict[str, str]) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi

    repo = HfApi().create_repo(repo, exist_ok=True).repo_id
    operations = [CommitOperationAdd(path, content.encode()) for path, content in files.items()]
    HfApi().create_commit(repo, operations, commit_message="all")


@pytest.mark.parametrize("kind", ["preupload", "lfs_put", "commit"])
def test_broken_connection_leaves_nothing_half_written(hub: HubServer, client: Client, kind: str) -> None:
    files = {"a.txt": "1", "b.safetensors": f"weights {kind}", "c.txt": "3"}
    # The client itself tries preupload and PUT again, a commit not; so the former get through a short break.
    with hub.down(before=kind, times=1):
        outcome = client.attempt(upload, repo=f"broken-{kind}", files=files)
    assert hub.requests["refused"] > 0
    repository = hub.storage[f"{USER}/broken-{kind}"]
    if kind == "commit":
        assert outcome.code == 1 and "RemoteProtocolError" in outcome.output
        assert repository.files() == {} and repository.messages == ["initial commit"]
        client.run(upload, repo=f"broken-{kind}", files=files)
    else:
        assert outcome.code == 0, outcome.output
    assert list(repository.files()) == list(files)


GOOD_CARD = """---
license: apache-2.0
library_name: transformers
tags: [a, b]
model-index:
- name: mine
  results:
  - task: {type: fill-mask}
    dataset: {type: text, name: a text}
    metrics: [{type: accuracy, value: 0.5}]
---
# Text
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", None),
        ("license: apache-2.0", "license: mine", '"license" must be one of'),
        ("tags: [a, b]", "tags: {a: b}", '"tags" must be a list'),
        ("tags: [a, b]", "tags: [a, b", "not YAML"),
        ("- name: mine\n  results", "- results", r'"model-index\[0\].name" is required'),
        ("value: 0.5", "worth: 0.5", r"metrics\[0\].value"),
        ("task: {type: fill-mask}", "task: {}", r"results\[0\].task.type"),
        ("name: a text", "nom: a text", "dataset.name"),
    ],
)
def test_cards_are_checked(old: str, new: str, message: str | None) -> None:
    errors = validate_card(GOOD_CARD.replace(old, new))
    if message is None:
        assert errors == []
    else:
        with pytest.raises(ValueError, match=message):
            raise ValueError("\n".join(errors))


def test_bad_card_refuses_the_commit(hub: HubServer, client: Client) -> None:
    card = GOOD_CARD.replace("apache-2.0", "mine")
    outcome = client.attempt(upload, repo="bad-card", files={"README.md": card, "a.txt": "1"})
    assert outcome.code == 1 and "Invalid metadata in README.md" in outcome.output
    assert '"license" must be one of' in outcome.output
    assert hub.storage[f"{USER}/bad-card"].files() == {}
    client.run(upload, repo="bad-card", files={"README.md": GOOD_CARD, "a.txt": "1"})
