"""Model cards on the Hub: what training leaves there validates, and what a user writes there stays."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from tests.hub.client import Client
from tests.hub.server import USER, HubServer

TEXT = "\n".join(f"line {number} of a short text" for number in range(60)) + "\n"


def train_and_push(folder: str, text: str, steps: int) -> dict[str, float]:
    """Trains a tiny language model, from where its folder ends, and pushes it under the folder's name."""
    from pathlib import Path

    from hf_seqmodels.tasks.model_cards import CardArguments
    from hf_seqmodels.tasks.train_lm import main
    from hf_seqmodels.tasks.train_lm_arguments import LMModelArguments, LMObjectiveArguments, LMTextArguments
    from hf_seqmodels.training import EngineArguments, engine

    engine.measure_gemm_rate = lambda dtype, device: 1e9  # it takes half a second
    corpus = Path(folder).with_suffix(".txt")
    corpus.write_text(text)
    args = EngineArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=2,
        push_to_hub=True,
        resume_from_checkpoint="auto",
        disable_tqdm=True,
    )
    model_args = LMModelArguments(config_overrides={"hidden_size": 8, "num_hidden_layers": 1})
    objective = LMObjectiveArguments(bptt=8, sample_length=0)
    card = CardArguments(hub_language=["en"])
    return main(LMTextArguments(train_file=[str(corpus)]), model_args, objective, args, card).metrics


def edit_card(repo: str, license: str, words: str) -> None:
    """What a user does on the Hub's page of a model."""
    from huggingface_hub import ModelCard

    card = ModelCard.load(repo)
    card.data.license = license
    card.text += words
    card.push_to_hub(repo)


def fine_tune_and_push(repo: str) -> None:
    """Loads a model from the Hub, changes it and pushes it back."""
    import hf_seqmodels

    model = hf_seqmodels.LSTMForCausalLM.from_pretrained(repo)
    next(model.parameters()).data.add_(1.0)
    model.push_to_hub(repo)


def card_of(hub: HubServer, repo: str) -> ModelCard:
    repository = hub.storage[repo]
    text = repository.text(repository.head, "README.md")
    assert text is not None
    return ModelCard(text)


def values(card: ModelCard) -> dict[str, Any]:
    return {result.metric_name: result.metric_value for result in card.data.eval_results}


def test_cards_arrive_and_users_words_stay(hub: HubServer, client: Client, tmp_path: Path) -> None:
    folder, repo = str(tmp_path / "reader"), f"{USER}/reader"
    first = client.run(train_and_push, folder=folder, text=TEXT, steps=2)
    card = card_of(hub, repo)
    assert values(card) == first and card.data.license == "unknown" and card.data.language == ["en"]
    # The name alone was given; what loads it is the whole one.
    assert f'from_pretrained("{repo}")' in card.text and folder not in card.text.split("## Training\n")[0]
    client.run(edit_card, repo=repo, license="mit", words="\nFor my grandmother.\n")
    second = client.run(train_and_push, folder=folder, text=TEXT, steps=3)
    card = card_of(hub, repo)
    assert values(card) == second != first
    assert card.text.endswith("For my grandmother.\n") and card.data.license == "mit"
    client.run(fine_tune_and_push, repo=repo)
    card = card_of(hub, repo)
    assert card.text.endswith("For my grandmother.\n") and card.data.license == "mit"
