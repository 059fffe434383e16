"""Model cards: what follows from a class, whose text is kept, and what a push makes of the card that it finds."""

import copy
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import EntryNotFoundError
from transformers import BertConfig, BertForMaskedLM

from hf_seqmodels import LSTMConfig, LSTMForCausalLM, SeqViTConfig, SeqViTForMaskedPatchPrediction
from hf_seqmodels.models.model_card import (
    auto_class_of,
    card_data,
    card_text,
    is_edited,
    load_card,
    make_card,
    pipeline_tag_of,
    save_card,
)
from hf_seqmodels.registry import ARCHITECTURES

SIZES = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1}
REPOSITORY = "me/reader"


class MyReader(LSTMForCausalLM):
    """A user's subclass under a name of its own."""


def lstm() -> LSTMForCausalLM:
    return LSTMForCausalLM(LSTMConfig(**SIZES))


def result(value: float, split: str = "validation", dataset: str = "local") -> EvalResult:
    return EvalResult(
        task_type="text-generation",
        dataset_type=dataset,
        dataset_name="a.txt",
        dataset_split=split,
        metric_type="perplexity",
        metric_value=value,
    )


def evaluated(model: Any, name: str, value: float, **values: Any) -> ModelCard:
    data = card_data(model, eval_results=[result(value)], model_name="x", metrics=["perplexity"], **values)
    return make_card(data, card_text(model, name, [("Results", f"perplexity {value}")]))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda row: row.config.model_type)
def test_classes_are_known_as_the_registry_knows_them(architecture: Any) -> None:
    for auto_class, model_class in architecture.models.items():
        assert auto_class_of(model_class) == auto_class


def test_subclasses_and_classes_without_auto_class() -> None:
    assert auto_class_of(MyReader) == "AutoModelForCausalLM" and pipeline_tag_of(MyReader) == "text-generation"
    model = SeqViTForMaskedPatchPrediction(
        SeqViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=8, patch_size=4
        )
    )
    text = card_text(model, "out/vit")
    assert "from hf_seqmodels import SeqViTForMaskedPatchPrediction" in text
    assert "SeqViTForMaskedPatchPrediction.from_pretrained" in text and "AutoImageProcessor" in text
    assert "pipeline_tag" not in card_data(model).to_dict()


def test_a_model_of_transformers_needs_no_package() -> None:
    sizes = {"hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8, "num_hidden_layers": 1}
    model = BertForMaskedLM(BertConfig(**sizes, vocab_size=20))
    text = card_text(model, "out/bert")
    assert "hf_seqmodels" not in text and "trust_remote_code" not in text
    assert card_data(model).tags == ["bert"] and card_data(model).pipeline_tag == "fill-mask"


def test_metadata_and_text_say_what_the_model_is() -> None:
    model = lstm()
    data = card_data(model).to_dict()
    assert data == {
        "license": "unknown",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["hf_seqmodels", "lstm"],
    }
    text = card_text(model, "out/reader")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert text.startswith("# reader\n") and f"{count:,} parameters" in text and "Hochreiter" in text
    assert 'AutoModelForCausalLM.from_pretrained("out/reader", trust_remote_code=True)' in text


def test_only_changes_of_words_are_edits(tmp_path: Path) -> None:
    card = make_card(card_data(lstm()), card_text(lstm(), "out"))
    card.save(tmp_path / "README.md")
    loaded = load_card(tmp_path)
    assert loaded is not None and not is_edited(loaded)
    whole = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert not is_edited(ModelCard(whole.replace("\n", "\r\n")))  # as git does on Windows
    assert not is_edited(ModelCard(whole.replace("license: unknown", "license: mit")))
    assert is_edited(ModelCard(whole.replace("parameters", "weights")))
    assert is_edited(ModelCard(whole + "\nMy own words.\n"))
    assert is_edited(ModelCard("---\nlicense: mit\n---\n# Mine\n"))


def test_a_new_card_replaces_an_unedited_one(tmp_path: Path) -> None:
    model = lstm()
    save_card(tmp_path, evaluated(model, "out", 9.0, license="mit"))
    save_card(tmp_path, evaluated(model, "out", 7.0))
    card = load_card(tmp_path)
    assert card is not None and "perplexity 7.0" in card.text and "9.0" not in str(card)
    assert [found.metric_value for found in card.data.eval_results] == [7.0] and card.data.license == "mit"
    save_card(tmp_path, evaluated(model, "out", 7.0, license="apache-2.0"))  # what is stated now counts
    assert ModelCard.load(tmp_path / "README.md").data.license == "apache-2.0"


def test_an_edited_card_keeps_its_text_and_gets_metadata(tmp_path: Path) -> None:
    data = ModelCardData(
        license="cc-by-4.0",
        tags=["poetry"],
        language="ko",
        inference=False,
        model_name="mine",
        eval_results=[result(9.0), result(5.0, dataset="poems")],
    )
    ModelCard(f"---\n{data.to_yaml()}\n---\n# My reader\n\nReads verse.\n").save(tmp_path / "README.md")
    save_card(tmp_path, evaluated(lstm(), "out", 7.0, language=["en"]))
    card = ModelCard.load(tmp_path / "README.md")
    assert card.text.strip() == "# My reader\n\nReads verse."
    assert card.data.license == "cc-by-4.0" and card.data.inference is False
    assert card.data.language == ["en", "ko"] and set(card.data.tags) == {"poetry", "hf_seqmodels", "lstm"}
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-generation"
    # The run's own result replaces the one of the same data; what the user measured elsewhere stays.
    found = {(value.dataset_type, value.metric_value) for value in card.data.eval_results}
    assert found == {("local", 7.0), ("poems", 5.0)}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The README.md of the repository: what a commit puts there, the next push finds. Nothing leaves the process."""
    files: dict[str, str] = {}

    class Repository:
        repo_id = REPOSITORY

    def load(cls: type[ModelCard], place: Any, **kwargs: Any) -> ModelCard:
        if place == REPOSITORY:
            if "README.md" not in files:
                raise EntryNotFoundError("404")
            return cls(files["README.md"])
        return cls(Path(place).read_text(encoding="utf-8"))

    def create_commit(self: HfApi, repo_id: str, operations: list[Any], **kwargs: Any) -> None:
        names = [operation.path_in_repo for operation in operations]
        assert repo_id == REPOSITORY and {"model.safetensors", "config.json", "README.md"} <= set(names)
        files["README.md"] = Path(operations[names.index("README.md")].path_or_fileobj).read_text(encoding="utf-8")

    monkeypatch.setattr(HfApi, "create_repo", lambda self, *args, **kwargs: Repository())
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    monkeypatch.setattr(ModelCard, "load", classmethod(load))
    return files


def test_a_push_describes_the_model_in_place_of_the_empty_form(hub: dict[str, str]) -> None:
    lstm().push_to_hub(REPOSITORY)
    card = ModelCard(hub["README.md"])
    assert not is_edited(card) and "More Information Needed" not in card.text
    assert card.data.pipeline_tag == "text-generation" and card.data.license == "unknown"
    assert f'from_pretrained("{REPOSITORY}")' in card.text and card.text.count("# reader\n") == 1


def test_the_form_that_is_replaced_is_that_of_transformers(hub: dict[str, str]) -> None:
    """Were its words to change, it would count as edited, and be kept."""
    model = BertForMaskedLM(BertConfig(hidden_size=8, num_attention_heads=1, intermediate_size=8, num_hidden_layers=1))
    model.push_to_hub(REPOSITORY)
    assert "More Information Needed" in hub["README.md"]
    lstm().push_to_hub(REPOSITORY)
    assert "More Information Needed" not in hub["README.md"] and "LSTMForCausalLM" in hub["README.md"]


def test_a_push_keeps_what_the_repository_says(hub: dict[str, str]) -> None:
    hub["README.md"] = "---\nlicense: mit\nlanguage: ko\ntags:\n- verse\n---\n# Mine\n\nMy own words.\n"
    lstm().push_to_hub(REPOSITORY)
    card = ModelCard(hub["README.md"])
    assert card.text.strip() == "# Mine\n\nMy own words."
    assert (card.data.license, card.data.language) == ("mit", ["ko"])
    assert card.data.tags == ["verse", "hf_seqmodels", "lstm"] and card.data.library_name == "transformers"
    hub["README.md"] = hub["README.md"].replace("mit", "apache-2.0")
    lstm().push_to_hub(REPOSITORY)
    assert ModelCard(hub["README.md"]).data.license == "apache-2.0"


def test_a_trained_models_card_goes_along_while_its_weights_do(hub: dict[str, str], tmp_path: Path) -> None:
    model = lstm()
    model.save_pretrained(tmp_path)
    save_card(tmp_path, evaluated(model, str(tmp_path), 7.0))
    loaded = LSTMForCausalLM.from_pretrained(tmp_path)
    loaded.push_to_hub(REPOSITORY)
    card = ModelCard(hub["README.md"])
    assert "perplexity 7.0" in card.text and not is_edited(card) and card.data.model_name == "reader"
    assert str(tmp_path) not in card.text and f'from_pretrained("{REPOSITORY}")' in card.text
    # Results are of those weights only.
    hub.clear()
    changed = copy.deepcopy(loaded)
    next(changed.parameters()).data.add_(1.0)
    changed.push_to_hub(REPOSITORY)
    assert "perplexity 7.0" not in hub["README.md"] and ModelCard(hub["README.md"]).data.eval_results is None


@pytest.mark.parametrize("edited", [False, True])
def test_saving_with_a_push_keeps_the_folders_card(hub: dict[str, str], tmp_path: Path, edited: bool) -> None:
    model = lstm()
    save_card(tmp_path, evaluated(model, "out", 7.0, license="mit"))
    if edited:
        path = tmp_path / "README.md"
        path.write_text(path.read_text(encoding="utf-8") + "\nMy own words.\n", encoding="utf-8")
    model.save_pretrained(tmp_path, push_to_hub=True, repo_id=REPOSITORY)
    card = ModelCard(hub["README.md"])
    assert "perplexity 7.0" in card.text and is_edited(card) == edited == ("My own words." in card.text)
    assert card.data.license == "mit" and card.data.eval_results[0].metric_value == 7.0


def test_plain_saving_writes_no_card(tmp_path: Path) -> None:
    lstm().save_pretrained(tmp_path)
    assert not (tmp_path / "README.md").exists()
