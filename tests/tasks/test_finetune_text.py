"""The fine-tuning program end to end on tiny models, and its numbers: accumulation, best model, alignment."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    pipeline,
)

from hf_seqmodels import GRUConfig, GRUForTokenClassification, SeqBertConfig, SeqBertForPreTraining
from hf_seqmodels.data.tokenizers import train_wordpiece, train_words
from hf_seqmodels.tasks.arguments import parse
from hf_seqmodels.tasks.finetune_text import exact_loss, main
from hf_seqmodels.tasks.finetune_text_arguments import FinetuneTextArguments

GOOD, BAD = ("fine", "lovely", "great"), ("dull", "awful", "poor")
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
QUICK = ["--use_cpu", "--disable_tqdm", "True", "--learning_rate", "5e-3", "--max_length", "16"]


def sentences(count: int) -> list[tuple[str, str]]:
    """Label and text: the adjective decides."""
    rows = []
    for index in range(count):
        words, label = ((BAD, "neg"), (GOOD, "pos"))[index % 2]
        rows.append((label, f"a {words[index // 2 % 3]} film number {index % 7}"))
    return rows


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_wordpiece([text for _, text in sentences(60)] * 2, 120).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["bert", "seq_bert"])
def checkpoint(request: pytest.FixtureRequest, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining checkpoint with its tokenizer, of transformers' BERT and of ours."""
    folder = tmp_path_factory.mktemp(request.param)
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    sizes = {**SIZES, "vocab_size": len(loaded), "max_position_embeddings": 32}
    torch.manual_seed(0)
    model = (
        BertForPreTraining(BertConfig(**sizes))
        if request.param == "bert"
        else SeqBertForPreTraining(SeqBertConfig(**sizes))
    )
    model.save_pretrained(folder)
    loaded.save_pretrained(folder)
    return folder


def two_columns(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("".join(f"{label} {text}\n" for label, text in rows), encoding="utf-8")
    return str(path)


def test_two_column_files_from_a_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = two_columns(tmp_path / "stsa.binary.train", sentences(60))
    dev = two_columns(tmp_path / "stsa.binary.dev", sentences(30))
    out = tmp_path / "out"
    files = ["--train_file", train, "--validation_file", dev, "--test_file", dev]
    flags = ["--model_name_or_path", str(checkpoint), "--output_dir", str(out), "--num_train_epochs", "8"]
    results = main([*flags, *files, *QUICK])
    assert results["eval_accuracy"] == results["test_accuracy"] == 1.0 and results["eval_f1"] == 1.0
    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert model.config.id2label == {0: "neg", 1: "pos"}
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(out), device=-1)
    assert [answer["label"] for answer in classify(["a great film", "a poor film"])] == ["pos", "neg"]
    printed = capsys.readouterr().out
    assert "validation" in printed and "1.0000" in printed and "accuracy 0.5000" in printed and str(out) in printed
    assert json.loads((out / "all_results.json").read_text())["test_accuracy"] == 1.0
    with pytest.raises(ValueError, match=r"not empty.*--resume_from_checkpoint auto"):
        main([*flags, *files, *QUICK])


def test_pairs_in_csv_from_scratch_with_a_held_out_share(tokenizer: Path, tmp_path: Path) -> None:
    lines = ["first,second,same"]
    for index in range(40):
        first = GOOD[index % 3]
        second = first if index % 2 else BAD[index % 3]
        lines.append(f'"a {first} film","a {second}\nfilm",{"yes" if index % 2 else "no"}')
    (tmp_path / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
    results = main(
        ["--model_type", "seq_bert", "--config_overrides", json.dumps(SIZES), "--tokenizer_name", str(tokenizer)]
        + ["--train_file", str(tmp_path / "pairs.csv"), "--text_column", "first", "--pair_column", "second"]
        + ["--label_column", "same", "--output_dir", str(tmp_path / "out"), "--num_train_epochs", "1"]
        + [*QUICK, "--validation_share", "0.25"]
    )
    assert 0.0 <= results["eval_accuracy"] <= 1.0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "seq_bert" and config["id2label"] == {"0": "no", "1": "yes"}


def test_tagging_conll_columns(checkpoint: Path, tmp_path: Path) -> None:
    rows = []
    for index in range(40):
        good = GOOD[index % 3]
        rows.append(f"a\tO\n{good}\tB-ADJ\nfilm\tI-ADJ\nnumber\tO\n{index % 7}\tB-NUM\n")
    (tmp_path / "train.conll").write_text("\n".join(rows), encoding="utf-8")
    out = tmp_path / "out"
    results = main(
        ["--model_name_or_path", str(checkpoint), "--task", "tagging", "--train_file", str(tmp_path / "train.conll")]
        + ["--validation_file", str(tmp_path / "train.conll"), "--output_dir", str(out), "--num_train_epochs", "12"]
        + QUICK
    )
    assert results["eval_f1"] == results["eval_accuracy"] == 1.0
    model = AutoModelForTokenClassification.from_pretrained(out)
    assert set(model.config.id2label.values()) == {"O", "B-ADJ", "I-ADJ", "B-NUM"}


def old_checkpoint(folder: Path, loaded: PreTrainedTokenizerBase) -> None:
    """A BERT whose layer norms are named gamma and beta, as bert-base-uncased's are."""
    model = BertForPreTraining(BertConfig(**SIZES, vocab_size=len(loaded), max_position_embeddings=32))
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): weight
        for name, weight in weights.items()
    }
    assert set(renamed) != set(weights)
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    loaded.save_pretrained(folder)


def test_the_best_model_comes_back_whole_from_an_old_checkpoint(tokenizer: Path, tmp_path: Path) -> None:
    old_checkpoint(tmp_path / "old", AutoTokenizer.from_pretrained(tokenizer))
    train = two_columns(tmp_path / "train", sentences(40))
    out = tmp_path / "out"
    # The least accurate epoch counts as best here, so that best and last differ.
    main(
        ["--model_name_or_path", str(tmp_path / "old"), "--train_file", train, "--validation_file", train]
        + ["--output_dir", str(out), "--num_train_epochs", "4", "--save_total_limit", "9", *QUICK]
        + ["--metric_for_best_model", "eval_accuracy", "--greater_is_better", "False"]
    )
    best = json.loads((out / "trainer_state.json").read_text())["best_model_checkpoint"]
    kept, final = load_file(Path(best) / "model.safetensors"), load_file(out / "model.safetensors")
    assert not [name for name in final if "gamma" in name]
    last = load_file(sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))[-1] / "model.safetensors")
    assert any(not torch.equal(last[name], final[name]) for name in final)  # else this test would show nothing
    for name in final:
        assert torch.equal(kept[name], final[name]), name


def gradient_step(folder: Path, micro_batch: int, accumulation: int, exact: bool) -> dict[str, torch.Tensor]:
    """The weights after one SGD step on the same eight examples."""
    torch.manual_seed(0)
    config = BertConfig(**SIZES, vocab_size=50, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertForSequenceClassification(config)
    data = [{"input_ids": [2, 5 + i, 6 + i, 3], "labels": i % 2} for i in range(8)]
    args = TrainingArguments(
        str(folder / f"{micro_batch}-{accumulation}-{exact}"),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        optim="sgd",
        learning_rate=1.0,
        max_grad_norm=0.0,
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = Trainer(model, args, train_dataset=data, compute_loss_func=exact_loss if exact else None)
    trainer.train()
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_accumulation_is_exact_and_transformers_own_is_not(tmp_path: Path) -> None:
    whole = gradient_step(tmp_path, 8, 1, exact=True)
    parts = gradient_step(tmp_path, 2, 4, exact=True)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-6) for name in whole)
    theirs = gradient_step(tmp_path, 2, 4, exact=False)
    assert any(not torch.allclose(whole[name], theirs[name], atol=1e-3) for name in whole)


def test_resuming_by_auto(tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = two_columns(tmp_path / "train", sentences(20))
    flags = ["--model_type", "bert", "--config_overrides", json.dumps(SIZES), "--tokenizer_name", str(tokenizer)]
    flags += ["--train_file", train, "--output_dir", str(tmp_path / "out"), *QUICK]
    flags += ["--resume_from_checkpoint", "auto"]
    main([*flags, "--num_train_epochs", "1"])
    assert "starting anew" in capsys.readouterr().out
    main([*flags, "--num_train_epochs", "2"])
    assert "Resuming from" in capsys.readouterr().out


RECURRENT = {"hidden_size": 16, "num_hidden_layers": 1, "bidirectional": True}


def from_scratch(model_type: str, files: dict[str, str], out: Path, **overrides: object) -> list[str]:
    """The flags of a recurrent model on words of the training data."""
    sizes = json.dumps({**RECURRENT, **overrides})
    flags = ["--model_type", model_type, "--tokenization", "word", "--config_overrides", sizes]
    return [*flags, "--output_dir", str(out), *QUICK, *(part for pair in files.items() for part in pair)]


def test_lstm_from_scratch_makes_its_tokenizer_and_resumes_bitwise(tmp_path: Path) -> None:
    train = two_columns(tmp_path / "train", sentences(40))
    dev = two_columns(tmp_path / "dev", [*sentences(6), ("pos", "A GREAT unheard-of film")])
    files = {"--train_file": train, "--validation_file": dev, "--lr_scheduler_type": "constant"}
    flags = from_scratch("lstm", files, tmp_path / "out", pooling="attention", input_dropout_prob=0.1)
    flags += ["--lowercase", "--learning_rate", "2e-2", "--per_device_train_batch_size", "8"]
    # Five epochs in one go, and five with a stop after two.
    results = main([*flags, "--num_train_epochs", "5"])
    assert results["eval_accuracy"] == 1.0
    parts = [*flags, "--output_dir", str(tmp_path / "parts"), "--resume_from_checkpoint", "auto"]
    main([*parts, "--num_train_epochs", "2"])
    assert main([*parts, "--num_train_epochs", "5"])["eval_loss"] == results["eval_loss"]
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "parts"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole) and set(whole) == set(resumed)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.tokenize("Great unheard-of film") == ["great", "[UNK]", "film"]
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert model.config.vocab_size == len(tokenizer) and model.config.pad_token_id == 0
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device=-1)
    assert [answer["label"] for answer in classify(["a great film", "a poor film"])] == ["pos", "neg"]


def ambiguous_tags(path: Path) -> str:
    """Sentences whose tags follow from the neighbours; some words are too rare for the vocabulary."""
    rows = []
    for index in range(40):
        good = GOOD[index % 3]
        rows.append(f"a\tO\n{good}\tB-ADJ\nfilm\tI-ADJ\nfilm\tO\nword{index}\tB-NUM\n")
    path.write_text("\n".join(rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("model_type, use_crf", [("gru", False), ("lstm", True)])
def test_recurrent_tagging(model_type: str, use_crf: bool, tmp_path: Path) -> None:
    train = ambiguous_tags(tmp_path / "train.conll")
    out = tmp_path / "out"
    flags = from_scratch(model_type, {"--train_file": train, "--validation_file": train}, out, use_crf=use_crf)
    flags += ["--task", "tagging", "--learning_rate", "3e-2", "--num_train_epochs", "6"]
    results = main([*flags, "--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "2"])
    assert results["eval_f1"] == results["eval_accuracy"] == 1.0
    model = AutoModelForTokenClassification.from_pretrained(out)
    assert (model.crf is not None) == use_crf
    loaded = AutoTokenizer.from_pretrained(out)
    tagged = pipeline("token-classification", model=model, tokenizer=loaded, device=-1)("a lovely film film new")
    # The pipeline leaves out O.
    assert [(answer["word"], answer["entity"]) for answer in tagged] == [
        ("lovely", "B-ADJ"),
        ("film", "I-ADJ"),
        ("new", "B-NUM"),
    ]


def test_crf_is_measured_by_its_viterbi_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the most probable tag of each token, which may form impossible sequences."""
    train = ambiguous_tags(tmp_path / "train.conll")
    flags = from_scratch("gru", {"--train_file": train}, tmp_path / "out", use_crf=True)
    seen: list[torch.Tensor] = []

    def spied(self: object, emissions: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        seen.append(kept)
        return kept.long() * 4 - 1  # O at every word

    monkeypatch.setattr("hf_seqmodels.models.crf.LinearChainCRF.viterbi", spied)
    results = main([*flags, "--task", "tagging", "--num_train_epochs", "1"])
    assert seen and results["eval_f1"] == 0.0 and results["eval_accuracy"] == 0.4


def test_accumulation_with_a_crf_is_exact(tmp_path: Path) -> None:
    weights = []
    for micro_batch, accumulation in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        labels = {"id2label": {0: "O", 1: "B-A", 2: "I-A"}}
        model = GRUForTokenClassification(GRUConfig(**RECURRENT, vocab_size=50, use_crf=True, **labels))
        data = [{"input_ids": list(range(5, 8 + i)), "labels": [-100] + [1] * i + [2, 0]} for i in range(8)]
        args = TrainingArguments(
            str(tmp_path / str(accumulation)),
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0.0,
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
        )
        tokenizer = train_words(["a a"], 10)
        Trainer(model, args, DataCollatorForTokenClassification(tokenizer), train_dataset=data).train()
        weights.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
    # Float32 rounding of sums in another order.
    assert all(torch.allclose(weights[0][name], weights[1][name], rtol=0, atol=1e-6) for name in weights[0])


def test_label_smoothing_with_a_crf_is_refused(tmp_path: Path) -> None:
    train = ambiguous_tags(tmp_path / "train.conll")
    flags = from_scratch("lstm", {"--train_file": train}, tmp_path / "out", use_crf=True)
    with pytest.raises(ValueError, match=r"label_smoothing_factor=0.1 does not go with use_crf=True"):
        main([*flags, "--task", "tagging", "--label_smoothing_factor", "0.1"])


def test_word_pieces_are_the_default_and_tags_stay_with_their_words(tmp_path: Path) -> None:
    train = ambiguous_tags(tmp_path / "train.conll")
    sizes = json.dumps({**RECURRENT, "use_crf": True})
    flags = ["--model_type", "gru", "--config_overrides", sizes, "--vocab_size", "60", "--task", "tagging"]
    flags += ["--train_file", train, "--validation_file", train, "--output_dir", str(tmp_path / "out")]
    results = main([*flags, *QUICK, "--max_length", "48", "--learning_rate", "3e-2", "--num_train_epochs", "8"])
    assert results["eval_f1"] == 1.0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer("lovely")["input_ids"]) > 3  # [CLS], several pieces, [SEP]: labels had to be spread


RECIPES = sorted(
    path
    for pattern in ("finetune_*", "sst2_*", "wnut17_*")
    for path in Path("scripts/recipes").glob(f"{pattern}.yaml")
)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path) -> None:
    text = recipe.read_text()
    flags = ["--recipe", str(recipe), "--output_dir", "out"]
    flags += [] if "model_type:" in text else ["--model_name_or_path", "x"]
    flags += [] if "embedded:" in text else ["--train_file", "x"]
    parse((FinetuneTextArguments, TrainingArguments), flags)
    assert all(word in text for word in ("# Expected:", "# Time:", "# Command:"))


@pytest.mark.parametrize(
    "flags, expected",
    [
        ([], "give one of --train_file, --dataset_name, --embedded; got none"),
        (["--embedded", "--train_file", "x"], "got --train_file and --embedded"),
        (["--embedded"], "give either --model_name_or_path"),
        (
            ["--embedded", "--model_type", "bert", "--tokenizer_name", "x", "--vocab_size", "9", "--lowercase"],
            "--vocab_size and --lowercase: no tokenizer is trained, --tokenizer_name has one",
        ),
        (["--embedded", "--model_name_or_path", "x", "--tokenization", "word"], "--model_name_or_path has one"),
        (
            ["--embedded", "--model_type", "lstm", "--min_frequency", "3"],
            "min_frequency=3 goes with --tokenization word",
        ),
        (["--embedded", "--model_name_or_path", "x", "--task", "tagging"], "takes neither"),
        (["--embedded", "--model_name_or_path", "x", "--max_length", "2"], "max_length=2"),
        (["--embedded", "--model_name_or_path", "x", "--validation_file", "y"], "go with --train_file"),
    ],
)
def test_bad_arguments(flags: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(flags)
    assert expected in capsys.readouterr().err


def test_bad_data_and_models_are_named(tokenizer: Path, tmp_path: Path) -> None:
    train = two_columns(tmp_path / "train", sentences(8))
    strange = two_columns(tmp_path / "dev", [*sentences(2), ("meh", "a film")])
    flags = ["--model_type", "bert", "--config_overrides", json.dumps(SIZES), "--tokenizer_name", str(tokenizer)]
    flags += ["--train_file", train, "--output_dir", str(tmp_path / "out"), "--use_cpu"]
    with pytest.raises(
        ValueError, match=r"dev, line 3: label 'meh' is not among those of the training data: neg, pos"
    ):
        main([*flags, "--validation_file", strange])
    with pytest.raises(ValueError, match="max_length=600 exceeds the model's max_position_embeddings=512"):
        main([*flags, "--max_length", "600"])
    with pytest.raises(ValueError, match="there is no such folder"):
        main([*flags, "--tokenizer_name", str(tmp_path / "nowhere")])
