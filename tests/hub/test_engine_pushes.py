"""Training that pushes: what arrives, and what becomes of it when tokens are wrong or the network is down."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.hub.client import Client, Outcome
from tests.hub.server import OTHER_TOKEN, READ_TOKEN, USER, WRITE_TOKEN, HubServer

TEXT = "\n".join(f"line {number} of a short text" for number in range(60)) + "\n"
HINT = "hub_model_id='{name}' cannot be pushed to. "


def train(folder: str, text: str, pauses: list[float] | None = None, **settings: Any) -> list[str]:
    """Trains a tiny language model by the script itself; the names of what lies in its folder."""
    import runpy
    import sys
    from pathlib import Path

    from hf_seqmodels.training import engine
    from hf_seqmodels.training.pushing import Pusher

    engine.measure_gemm_rate = lambda dtype, device: 1e9  # it takes half a second
    Pusher.pauses = pauses or []
    corpus = Path(folder).with_suffix(".txt")
    corpus.parent.mkdir(parents=True, exist_ok=True)
    corpus.write_text(text)
    settings = {"max_steps": 6, "save_steps": 2, "per_device_train_batch_size": 2, "bptt": 8, **settings}
    sys.argv = ["scripts/train_lm.py", "--train_file", str(corpus), "--output_dir", folder, "--push_to_hub"]
    sys.argv += ["--config_overrides", '{"hidden_size": 8, "num_hidden_layers": 1}', "--disable_tqdm"]
    for name, value in settings.items():
        sys.argv += [f"--{name}", str(value)]
    runpy.run_path(sys.argv[0], run_name="__main__")
    return sorted(path.name for path in Path(folder).iterdir())


def load(repo: str) -> list[Any]:
    """What of a pushed language model a user sees first."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(repo, trust_remote_code=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(repo)
    writer = transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)
    text = writer("line", max_new_tokens=3, do_sample=False)[0]["generated_text"]
    return [type(model).__name__, text.startswith("line"), float(sum(p.double().sum() for p in model.parameters()))]


def load_folder(folder: str) -> float:
    """The sum of a saved model's weights."""
    import transformers

    import hf_seqmodels  # noqa: F401

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    return float(sum(p.double().sum() for p in model.parameters()))


@pytest.mark.parametrize("strategy", ["end", "every_save"])
def test_what_arrives_loads(
    hub: HubServer, client: Client, bare_client: Client, tmp_path: Path, strategy: str
) -> None:
    name, folder = f"engine-{strategy.replace('_', '-')}", str(tmp_path / "run")
    settings = {"hub_strategy": strategy, "hub_model_id": f"{USER}/{name}", "hub_private_repo": True}
    files = client.run(train, folder=folder, text=TEXT, ema_decay=0.5, **settings)
    repository = hub.storage[f"{USER}/{name}"]
    assert repository.private
    assert {path for path in files if (tmp_path / "run" / path).is_file()} == set(repository.files())
    assert not any(path.startswith(("checkpoint", ".writing", "optimizer")) for path in repository.files())
    first, *midway, last = repository.messages
    assert (first, last) == ("initial commit", "End of training")
    # An upload that is still under way is not waited for, so the second save may go without.
    assert set(midway) <= {"Training in progress, step 2", "Training in progress, step 4"}
    assert bool(midway) == (strategy == "every_save")
    assert bare_client.run(load, repo=f"{USER}/{name}") == [
        "LSTMForCausalLM",
        True,
        client.run(load_folder, folder=folder),
    ]


def test_a_commit_midway_is_a_whole_model(hub: HubServer, client: Client, bare_client: Client, tmp_path: Path) -> None:
    name = f"{USER}/midway"
    settings = {"hub_strategy": "every_save", "hub_model_id": name, "save_total_limit": 3}
    client.run(train, folder=str(tmp_path / "run"), text=TEXT, **settings)
    state = hub.storage.load(name)
    sha = next(sha for sha, commit in state["commits"].items() if commit["message"].endswith("step 2"))
    hub.storage.save(name, {**state, "branches": {"main": sha}})
    architecture, written, total = bare_client.run(load, repo=name)
    assert architecture == "LSTMForCausalLM" and written
    assert total == client.run(load_folder, folder=str(tmp_path / "run" / "checkpoint-000002"))


@pytest.mark.parametrize(
    ("token", "name", "advice"),
    [
        (None, "mine", "Log in by `hf auth login`"),
        ("hf_wrong", "mine", "Log in by `hf auth login`"),
        (READ_TOKEN, "mine", "Set HF_TOKEN to a token that may write there"),
        (READ_TOKEN, f"{USER}/existing", "Set HF_TOKEN to a token that may write there"),
        (OTHER_TOKEN, f"{USER}/existing", "Set HF_TOKEN to a token that may write there"),
        (OTHER_TOKEN, f"{USER}/hidden", "Set HF_TOKEN to a token that may write there"),
        (WRITE_TOKEN, "not a name", "Name it owner/name"),
    ],
    ids=["no token", "unknown", "reader", "reader of one", "stranger", "stranger to a private one", "bad name"],
)
def test_a_repository_that_cannot_be_written_is_named_before_training(
    hub: HubServer, client: Client, tmp_path: Path, token: str | None, name: str, advice: str
) -> None:
    hub.storage.create(f"{USER}/existing")
    hub.storage.create(f"{USER}/hidden", private=True)
    outcome = client.attempt(train, token=token, folder=str(tmp_path / "run"), text=TEXT, hub_model_id=name)
    _assert_refused(outcome, HINT.format(name=name) + advice)
    assert not (tmp_path / "run").exists()
    assert hub.storage.find(f"{USER}/mine") is None
    assert hub.storage[f"{USER}/existing"].files() == {}


def test_no_network_is_said_before_training(hub: HubServer, client: Client, tmp_path: Path) -> None:
    with hub.down():
        outcome = client.attempt(train, folder=str(tmp_path / "run"), text=TEXT, hub_model_id="away")
    _assert_refused(outcome, HINT.format(name="away") + "The Hub does not answer")
    assert not (tmp_path / "run").exists()


def _assert_refused(outcome: Outcome, message: str) -> None:
    assert outcome.code == 1
    assert f"train_lm: {message}" in outcome.output, outcome.output
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("outage", [{"before": "commit", "times": 2}, {"after": "auth_check", "times": 3}], ids=str)
def test_down_for_a_while(hub: HubServer, client: Client, tmp_path: Path, outage: dict[str, Any]) -> None:
    name = f"{USER}/interrupted-{next(iter(outage))}"
    settings = {"hub_strategy": "every_save", "hub_model_id": name, "pauses": [0.05] * 3}
    with hub.down(**outage):
        outcome = client.attempt(train, folder=str(tmp_path / "run"), text=TEXT, **settings)
        assert not hub.is_down("commit")  # it was down as often as it was to be
    assert outcome.code == 0, outcome.output
    assert outcome.output.count("Training goes on") == 1
    repository = hub.storage[name]
    assert repository.messages[-1] == "End of training"
    assert set(repository.files()) == {path.name for path in (tmp_path / "run").iterdir() if path.is_file()}


def upload_by_hand(command: list[str]) -> None:
    """Runs a command of `hf` as a shell would."""
    import sys

    from huggingface_hub.cli.hf import main

    sys.argv = command
    main()


@pytest.mark.parametrize("outage", [{"before": "commit"}, {"after": "auth_check"}], ids=str)
def test_down_to_the_end(hub: HubServer, client: Client, tmp_path: Path, outage: dict[str, Any]) -> None:
    name, folder = f"{USER}/lost-{next(iter(outage))}", tmp_path / "run"
    settings = {"hub_strategy": "every_save", "hub_model_id": name, "pauses": [0.05, 0.1]}
    with hub.down(**outage):
        outcome = client.attempt(train, folder=str(folder), text=TEXT, **settings)
    assert outcome.code == 1 and "Traceback" not in outcome.output, outcome.output
    assert outcome.output.count("Training goes on") == 1  # though more than one push failed
    assert "Trying again in 0.05 s" in outcome.output and "Trying again in 0.1 s" in outcome.output
    assert f"train_lm: The trained model was not pushed to {name}: RemoteProtocolError" in outcome.output
    repository = hub.storage[name]
    assert repository.messages == ["initial commit"] and repository.files() == {}
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-000004", "checkpoint-000006"]
    assert not list(folder.glob(".writing-*"))
    # What the message tells the user to do brings the same files.
    command = shlex.split(re.findall(r"^  (hf upload .*)$", outcome.output, re.MULTILINE)[0])
    client.run(upload_by_hand, command=command)
    assert set(repository.files()) == {path.name for path in folder.iterdir() if path.is_file()}


def push_folder(folder: str, repo: str) -> list[str]:
    """Pushes a folder; the lines that were said, with the error's own at the end."""
    from pathlib import Path

    from hf_seqmodels.training import PushError
    from hf_seqmodels.training.pushing import HubRepository, Pusher

    said: list[str] = []
    Pusher.pauses = [0.05]
    try:
        Pusher(HubRepository(repo), say=said.append).push(Path(folder), "all")
    except PushError as error:
        said.append(str(error))
    return said


def test_what_the_hub_refuses_is_not_tried_again(hub: HubServer, client: Client, tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mine\n---\n")
    (message,) = client.run(push_folder, folder=str(tmp_path), repo="refused")
    assert "was not pushed to refused: ValueError: Invalid metadata in README.md" in message
    card.write_text("---\nlicense: mit\n---\n")
    (message,) = client.run(push_folder, folder=str(tmp_path), repo="refused")
    assert message == f"Pushed to {hub.url}/{USER}/refused/commit/{hub.storage[f'{USER}/refused'].head}."


def train_in_two_processes(folder: str, repo: str) -> list[int]:
    """Trains in two processes over gloo; their exit codes."""
    from dataclasses import replace

    from hf_seqmodels.training.pushing import Pusher
    from tests.training import toy

    class PushedRun(toy.ToyRun):
        def arguments(self) -> Any:
            return replace(super().arguments(), push_to_hub=True, hub_model_id=repo, hub_strategy="every_save")

    Pusher.pauses = [0.05]
    return toy.run_in_two_processes(PushedRun(folder, steps=4, eval_steps=0))


def test_of_two_processes_one_pushes_and_both_end(hub: HubServer, client: Client, tmp_path: Path) -> None:
    name = f"{USER}/pair"
    assert client.run(train_in_two_processes, folder=str(tmp_path / "run"), repo=name) == [0, 0]
    assert hub.storage[name].messages == ["initial commit", "Training in progress, step 2", "End of training"]
    # Both hear what the main process finds out before training, and neither waits for a push that fails at the end.
    outcome = client.attempt(train_in_two_processes, token="hf_wrong", folder=str(tmp_path / "wrong"), repo=name)
    assert outcome.value == [1, 1] and outcome.output.count("ValueError: hub_model_id") == 2, outcome.output
    with hub.down(after="auth_check"):
        outcome = client.attempt(train_in_two_processes, folder=str(tmp_path / "down"), repo=name)
    assert outcome.value == [1, 0] and "PushError" in outcome.output, outcome.output
