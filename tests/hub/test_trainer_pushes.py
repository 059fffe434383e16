"""transformers' Trainer pushing our models, what it does when the network is down, and what our scripts do then."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.hub.client import Client
from tests.hub.server import USER, HubServer

ROWS = "".join(f"p a fine film number {number}\nn a dull film number {number}\n" for number in range(8))


def train(folder: str, repo: str, then_push: bool) -> None:
    """A user's own few steps of Trainer, which saves after each, and pushes what it saves."""
    import torch
    from transformers import Trainer, TrainingArguments

    from hf_seqmodels import LSTMConfig, LSTMForCausalLM
    from hf_seqmodels.data.translation_tokenizers import train_characters

    torch.manual_seed(0)
    tokenizer = train_characters(["the cat sat on a mat"])
    ids = tokenizer("the cat sat")["input_ids"]
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=3,
        save_steps=1,
        push_to_hub=True,
        hub_strategy="every_save",
        hub_always_push=True,
        hub_model_id=repo,
        per_device_train_batch_size=2,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=LSTMForCausalLM(LSTMConfig(vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1)),
        args=arguments,
        train_dataset=[{"input_ids": ids, "labels": ids}] * 8,
        processing_class=tokenizer,
    )
    trainer.train()
    if then_push:
        trainer.push_to_hub()


def weights(repo_or_folder: str, **options: Any) -> list[Any]:
    """Class and sum of weights of a language model or classifier."""
    import transformers

    if not options:
        import hf_seqmodels  # noqa: F401
    config = transformers.AutoConfig.from_pretrained(repo_or_folder, **options)
    head = "CausalLM" if "Causal" in config.architectures[0] else "SequenceClassification"
    auto_class = getattr(transformers, f"AutoModelFor{head}")
    model = auto_class.from_pretrained(repo_or_folder, **options)
    transformers.AutoTokenizer.from_pretrained(repo_or_folder)
    return [type(model).__name__, float(sum(p.double().sum() for p in model.parameters()))]


def test_trainer_pushes_every_save(hub: HubServer, client: Client, bare_client: Client, tmp_path: Path) -> None:
    name, folder = f"{USER}/trainer", str(tmp_path / "run")
    client.run(train, folder=folder, repo=name, then_push=True)
    repository = hub.storage[name]
    steps = [f"Training in progress, step {step}" for step in (1, 2, 3)]
    first, *during, last = repository.messages
    assert (first, last) == ("initial commit", "End of training")
    # Trainer leaves out a save while an upload is under way, and an upload whose files the final push has brought.
    assert during and during == [step for step in steps if step in during]
    found = bare_client.run(weights, repo_or_folder=name, trust_remote_code=True)
    assert found == client.run(weights, repo_or_folder=folder) and found[0] == "LSTMForCausalLM"
    # While it trains, Trainer copies configuration and weights alone from the checkpoint to what it pushes.
    commits = {commit["message"]: commit["files"] for commit in hub.storage.load(name)["commits"].values()}
    assert not any(path.endswith(".py") for path in commits[during[-1]])
    assert any(path.endswith(".py") for path in commits["End of training"])


def test_trainer_alone_says_nothing_of_a_push_that_failed(hub: HubServer, client: Client, tmp_path: Path) -> None:
    with hub.down(before="commit"):
        quiet = client.attempt(train, folder=str(tmp_path / "a"), repo="silent", then_push=False)
        at_end = client.attempt(train, folder=str(tmp_path / "b"), repo="silent", then_push=True)
    assert quiet.code == 0 and "disconnected" not in quiet.output
    assert at_end.code == 1 and "Traceback" in at_end.output and "RemoteProtocolError" in at_end.output
    assert hub.storage[f"{USER}/silent"].files() == {}


def fine_tune(folder: str, rows: str, repo: str, pauses: list[float]) -> None:
    """A tiny classifier by the script itself."""
    import runpy
    import sys
    from pathlib import Path

    from hf_seqmodels.training.pushing import Pusher

    Pusher.pauses = pauses
    file = Path(folder).with_suffix(".txt")
    file.write_text(rows)
    sys.argv = ["scripts/finetune_text.py", "--model_type", "lstm", "--train_file", str(file), "--output_dir", folder]
    sys.argv += ["--config_overrides", '{"hidden_size": 8, "num_hidden_layers": 1}', "--validation_file", str(file)]
    sys.argv += ["--vocab_size", "60", "--max_length", "16", "--num_train_epochs", "2", "--use_cpu"]
    sys.argv += ["--disable_tqdm", "True", "--push_to_hub", "--hub_model_id", repo, "--hub_private_repo", "True"]
    runpy.run_path(sys.argv[0], run_name="__main__")


@pytest.mark.parametrize("times", [0, 3], ids=["up", "down for a while"])
def test_fine_tuning_pushes_all_in_the_end(
    hub: HubServer, client: Client, bare_client: Client, tmp_path: Path, times: int
) -> None:
    name, folder = f"{USER}/tuned-{times}", tmp_path / "run"
    with hub.down(before="commit", times=times):
        outcome = client.attempt(fine_tune, folder=str(folder), rows=ROWS, repo=name, pauses=[0.05] * 3)
    assert outcome.code == 0, outcome.output
    repository = hub.storage[name]
    assert repository.private and repository.messages[-1] == "End of training"
    files = {path.name for path in folder.iterdir() if path.is_file()}
    assert set(repository.files()) | {"training_args.bin"} == files and "all_results.json" in files
    found = bare_client.run(weights, repo_or_folder=name, trust_remote_code=True)
    assert found == client.run(weights, repo_or_folder=str(folder))
    # Our script puts the code there first, so what is pushed while it trains loads as well.
    commits = hub.storage.load(name)["commits"].values()
    assert all(any(path.endswith(".py") for path in commit["files"]) for commit in commits if commit["files"])


def test_fine_tuning_saves_all_and_says_how_to_push(hub: HubServer, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with hub.down(before="commit"):
        outcome = client.attempt(fine_tune, folder=str(folder), rows=ROWS, repo="untold", pauses=[0.05])
    assert outcome.code == 1 and "Traceback" not in outcome.output, outcome.output
    assert "finetune_text: The trained model was not pushed to untold" in outcome.output
    assert re.search(rf"^  hf upload untold {folder} \. ", outcome.output, re.MULTILINE)
    assert (folder / "all_results.json").is_file() and (folder / "model.safetensors").is_file()
    assert hub.storage[f"{USER}/untold"].files() == {}


def test_fine_tuning_with_a_bad_token_ends_before_it_begins(client: Client, tmp_path: Path) -> None:
    arguments = {"folder": str(tmp_path / "run"), "rows": ROWS, "repo": "mine", "pauses": []}
    outcome = client.attempt(fine_tune, token="hf_wrong", **arguments)
    assert outcome.code == 1 and "Traceback" not in outcome.output
    assert "finetune_text: hub_model_id='mine' cannot be pushed to. Log in by `hf auth login`" in outcome.output
    assert not (tmp_path / "run").exists()
