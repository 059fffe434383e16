"""The cards that training scripts leave: metadata that parses back, the run's own results, code that runs."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from transformers import PreTrainedModel

from hf_seqmodels import LSTMConfig, LSTMForCausalLM
from hf_seqmodels.models.model_card import is_edited
from hf_seqmodels.tasks import finetune_image, finetune_text, pretrain_bert, pretrain_vit, train_lm, train_translation
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.image_arguments import AugmentationArguments, ImageArguments
from hf_seqmodels.tasks.model_cards import CardArguments, DataSource, TrainingCard, changed, without_secrets
from hf_seqmodels.tasks.pretrain_bert_arguments import ModelArguments, ObjectiveArguments, TextArguments
from hf_seqmodels.tasks.pretrain_vit_arguments import ViTModelArguments, ViTObjectiveArguments
from hf_seqmodels.tasks.train_lm_arguments import LMModelArguments, LMObjectiveArguments, LMTextArguments
from hf_seqmodels.tasks.train_translation_arguments import (
    ParallelArguments,
    TranslationArguments,
    TranslationModelArguments,
)
from hf_seqmodels.training import EngineArguments, engine

RECURRENT = {"hidden_size": 8, "num_hidden_layers": 1}
ENCODER = {**RECURRENT, "num_attention_heads": 2, "intermediate_size": 8}
VIT = {**ENCODER, "image_size": 8, "num_channels": 1}
LINES = [f"The {animal} number {number} sees a cat ." for animal in ("dog", "owl", "fox") for number in range(9)]
CARD = CardArguments(hub_license="mit", hub_language=["en"])


@pytest.fixture(autouse=True)
def _no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's rate takes half a second to measure, in each of these runs."""
    monkeypatch.setattr(engine, "measure_gemm_rate", lambda dtype, device: 1e9)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with text in documents, the same in two labelled classes, and once more reversed."""
    folder = tmp_path_factory.mktemp("files")
    documents = ["\n".join(LINES[start : start + 3]) for start in range(0, len(LINES), 3)]
    (folder / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    (folder / "train.txt").write_text("".join(f"{'yn'[place % 2]} {line}\n" for place, line in enumerate(LINES)))
    (folder / "source").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    (folder / "target").write_text("".join(f"{line[::-1]}\n" for line in LINES), encoding="utf-8")
    return folder


def engine_arguments(out: Path, **changes: Any) -> EngineArguments:
    return EngineArguments(**{"output_dir": str(out), "max_steps": 2, "disable_tqdm": True, **changes})


def language_model(files: Path, out: Path, card: CardArguments | None = CARD, **changes: Any) -> dict[str, Any]:
    result = train_lm.main(
        LMTextArguments(train_file=[str(files / "text.txt")]),
        LMModelArguments(config_overrides=RECURRENT),
        LMObjectiveArguments(bptt=8, sample_length=0),
        engine_arguments(out, **{"per_device_train_batch_size": 2, **changes}),
        card,
    )
    return {"validation": result.metrics}


def bert(files: Path, out: Path) -> dict[str, Any]:
    result = pretrain_bert.main(
        TextArguments(train_file=[str(files / "text.txt")], held_out=2, cache_dir=str(out.parent / "cache")),
        ModelArguments(config_overrides=ENCODER, vocab_size=150),
        ObjectiveArguments(max_seq_length=32),
        engine_arguments(out),
        CARD,
    )
    return {"validation": result.metrics}


def vit(files: Path, out: Path) -> dict[str, Any]:
    decoder = {f"decoder_{name}": value for name, value in ENCODER.items()}
    pretrain_vit.main(
        ImageArguments(cache_dir=str(out.parent / "cache")),
        ViTModelArguments(model_size="Ti/2", config_overrides={**VIT, **decoder}),
        ViTObjectiveArguments(objective="mae", feature_examples=60, max_eval_batches=2),
        AugmentationArguments(),
        engine_arguments(out),
        CARD,
    )
    results = json.loads((out / "all_results.json").read_text())
    return {"validation": {name: value for name, value in results.items() if name != "step"}}


def translation(files: Path, out: Path) -> dict[str, Any]:
    pair = [str(files / "source"), str(files / "target")]
    train_translation.main(
        ParallelArguments(train_file=pair, test_file=pair, tokenization="character", held_out=0.2),
        TranslationModelArguments(model_type="attention_seq2seq", config_overrides=RECURRENT),
        TranslationArguments(test=True, num_samples=0, test_num_beams=1, max_eval_sentences=2),
        engine_arguments(out),
        CARD,
    )
    results = json.loads((out / "results.json").read_text())
    names = ("loss", "bleu", "chrf", "exact_match")
    return {split: {name: results[split][name] for name in names} for split in ("validation", "test")}


TRAINER = ["--use_cpu", "--disable_tqdm", "True", "--report_to", "none", "--max_steps", "2"]
TRAINER += ["--eval_strategy", "no", "--save_strategy", "no", "--no_load_best_model_at_end"]
TRAINER += ["--hub_license", "mit", "--hub_language", "en"]


def trainer_results(results: dict[str, float]) -> dict[str, Any]:
    splits: dict[str, Any] = {}
    for name, value in results.items():
        prefix, _, metric = name.partition("_")
        if prefix in ("eval", "test") and not metric.endswith(("runtime", "per_second")):
            splits.setdefault({"eval": "validation"}.get(prefix, prefix), {})[metric] = value
    return splits


def text_classifier(files: Path, out: Path) -> dict[str, Any]:
    train = str(files / "train.txt")
    flags = ["--model_type", "seq_bert", "--config_overrides", json.dumps(ENCODER), "--vocab_size", "150"]
    named = ["--train_file", train, "--test_file", train, "--file_format", "two_column"]
    return trainer_results(finetune_text.main([*TRAINER, *flags, *named, "--output_dir", str(out)]))


def image_classifier(files: Path, out: Path) -> dict[str, Any]:
    flags = ["--model_type", "seq_vit", "--config_overrides", json.dumps({**VIT, "patch_size": 2})]
    places = ["--output_dir", str(out), "--cache_dir", str(out.parent / "cache")]
    return trainer_results(finetune_image.main([*TRAINER, *flags, *places]))


# Program -> its run, the card's pipeline, and what the trained data are called.
PROGRAMS = {
    "train_lm": (language_model, "text-generation", "text.txt"),
    "pretrain_bert": (bert, "fill-mask", "text.txt"),
    "pretrain_vit": (vit, "image-feature-extraction", "scikit-learn's digits"),
    "train_translation": (translation, "translation", "source, target"),
    "finetune_text": (text_classifier, "text-classification", "train.txt"),
    "finetune_image": (image_classifier, "image-classification", "scikit-learn's digits"),
}


def run_code(text: str) -> list[dict[str, Any]]:
    """What each piece of Python in a card leaves behind."""
    spaces = []
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        assert len([line for line in code.splitlines() if line != "import hf_seqmodels"]) == 3
        spaces.append({})
        exec(code, spaces[-1])
    return spaces


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_leaves_a_card_that_is_right(files: Path, tmp_path: Path, program: str) -> None:
    run, pipeline_tag, data_name = PROGRAMS[program]
    results = run(files, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert not is_edited(card)
    data = card.data.to_dict()
    assert (data["license"], data["language"], data["library_name"]) == ("mit", ["en"], "transformers")
    assert data["pipeline_tag"] == pipeline_tag and "hf_seqmodels" in data["tags"] and "datasets" not in data
    name, found = model_index_to_eval_results(data["model-index"])
    assert name == "out" and {value.task_type for value in found} == {pipeline_tag}
    measured: dict[str, Any] = {}
    for value in found:
        assert data_name in value.dataset_name
        measured.setdefault(value.dataset_split, {})[value.metric_name] = value.metric_value
    assert measured == results and all(measured.values())
    assert f"hf_seqmodels.tasks.{program}.main" in card.text or f"python scripts/{program}.py" in card.text
    if program == "train_translation":
        assert "1 beam(s)" in card.text and "BLEU `nrefs:1|case:mixed|" in card.text
    assert f"| torch | {torch.__version__} |" in card.text and str(files) not in card.text.split("```bash")[0]
    spaces = run_code(card.text)
    assert len(spaces) == 2  # with the package and without
    for space in spaces:
        assert isinstance(space["model"], PreTrainedModel)
        assert ("processor" if "image" in pipeline_tag else "tokenizer") in space


def test_the_command_is_in_the_card_without_tokens(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ["scripts/train_lm.py", "--train_file", "my text.txt", "--hub_token", "hf_secret"]
    monkeypatch.setattr(sys, "argv", given)
    language_model(files, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```bash\n(.*?)\n```", text, re.DOTALL)
    assert shlex.split(command) == ["python", *given[:-1], "…"] and "hf_secret" not in text
    assert "| `bptt` | `8` |" in text and "`learning_rate`" not in text  # which is the default
    assert "2 steps; " in text


def test_tokens_are_hidden_however_they_are_written() -> None:
    given = ["--hub_token", "a", "--hub-token=b", "--push_to_hub_token=c", "--pad_token_id", "0", "--seed", "1"]
    assert without_secrets(given) == [
        *["--hub_token", "…", "--hub-token=…", "--push_to_hub_token=…"],
        *["--pad_token_id", "0", "--seed", "1"],
    ]


def test_a_resumed_run_keeps_what_the_user_wrote(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = language_model(files, out)
    path = out / "README.md"
    path.write_text(path.read_text(encoding="utf-8") + "\nFor my grandmother.\n", encoding="utf-8")
    second = language_model(files, out, CardArguments(), max_steps=3, resume_from_checkpoint="auto")
    card = ModelCard.load(path)
    assert first != second and "For my grandmother." in card.text and "2 steps; " in card.text
    assert card.data.license == "mit"
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert measured == second["validation"]


def test_a_resumed_run_replaces_its_own_card(files: Path, tmp_path: Path) -> None:
    language_model(files, tmp_path / "out")
    language_model(files, tmp_path / "out", None, max_steps=3, resume_from_checkpoint="auto")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert "3 steps; " in card.text and "from step 2 on, where this run was resumed" in card.text
    assert card.data.license == "mit"  # stated once, and not taken back


def test_a_card_that_cannot_be_read_is_refused_before_training(files: Path, tmp_path: Path) -> None:
    language_model(files, tmp_path / "out")
    (tmp_path / "out" / "README.md").write_text("---\nlicense: [mit\n---\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"README\.md: its metadata cannot be read"):
        language_model(files, tmp_path / "out", max_steps=3, resume_from_checkpoint="auto")
    assert not (tmp_path / "out" / "checkpoint-000003").exists()


def write(folder: Path, data: DataSource, results: dict[str, Any], **fields: Any) -> ModelCard:
    args = EngineArguments(output_dir=str(folder), **fields)
    card = TrainingCard("train_lm", (LMModelArguments(), args), data, None, str(folder))
    card.write(LSTMForCausalLM(LSTMConfig(**RECURRENT, vocab_size=20)), results, 5)
    return ModelCard.load(folder / "README.md")


def test_a_dataset_of_the_hub_is_in_the_metadata(tmp_path: Path) -> None:
    data = DataSource.of([], "stanfordnlp/imdb", "plain_text", "the embedded text", ["en"])
    card = write(tmp_path, data, {"test": {"loss": float("nan"), "perplexity": 7.5, "signatures": {}}})
    metadata = card.data.to_dict()
    assert metadata["datasets"] == ["stanfordnlp/imdb"] and metadata["metrics"] == ["perplexity"]
    assert metadata["license"] == "unknown" and "language" not in metadata
    assert card.data.eval_results == [
        EvalResult(
            task_type="text-generation",
            dataset_type="stanfordnlp/imdb",
            dataset_name="stanfordnlp/imdb",
            dataset_config="plain_text",
            dataset_split="test",
            metric_type="perplexity",
            metric_name="perplexity",
            metric_value=7.5,
        )
    ]


def test_a_repository_to_push_to_is_what_the_code_loads(tmp_path: Path) -> None:
    data = DataSource.of([], None, None, "the embedded text", ["en"])
    assert data.languages == ("en",)
    card = write(tmp_path, data, {}, push_to_hub=True, hub_model_id="me/reader")
    assert 'from_pretrained("me/reader")' in card.text and "# reader\n" in card.text
    assert card.data.language == ["en"] and "model-index" not in card.data.to_dict()


def test_folders_stay_private(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert DataSource.of([], str(tmp_path / "mine"), None, "") == DataSource("mine")
    assert DataSource.of([str(tmp_path / "a.txt"), None], None, None, "") == DataSource("a.txt")


def test_only_what_differs_from_the_defaults_is_shown() -> None:
    args = EngineArguments(output_dir="out", learning_rate=2e-3, hub_model_id="me/x", max_steps=7)
    assert changed((args, LMTextArguments(train_file=["a"], tokenization="word"))) == {
        "learning_rate": 2e-3,
        "max_steps": 7,
        "tokenization": "word",
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hub_license", "Apache 2.0"], r"hub_license='Apache 2.0' must be a name of .*such as apache-2.0"),
        (["--hub_language", "en", "English"], r"hub_language='English' must be an ISO 639 code"),
    ],
)
def test_bad_metadata_are_refused_before_anything_runs(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(CardArguments, flags)
    assert re.search(message, capsys.readouterr().err)
    assert parse(CardArguments, ["--hub_license", "cc-by-sa-4.0", "--hub_language", "en", "ko"]) == (
        CardArguments("cc-by-sa-4.0", ["en", "ko"]),
    )
