"""Metrics load offline, agree with hand-computed values, and refuse what they can't compute."""

import math

import evaluate
import numpy as np
import pytest

from hf_seqmodels import metrics

TRUTH = [0, 1, 2, 2, 1, 0]
GUESS = [0, 2, 2, 2, 1, 1]  # right: 0, 2, 2, 1


@pytest.mark.parametrize("name", sorted(metrics.METRICS))
def test_loads_offline_as_an_evaluate_metric(name: str) -> None:
    metric = metrics.load(name)
    assert isinstance(metric, evaluate.Metric) and type(metric) is metrics.METRICS[name]
    assert metric.description


def test_accuracy() -> None:
    metric = metrics.load("accuracy")
    assert metric.compute(predictions=GUESS, references=TRUTH) == {"accuracy": pytest.approx(4 / 6)}
    assert metric.compute(predictions=np.array([1]), references=np.array([1])) == {"accuracy": 1.0}  # nothing kept


def test_batches_add_up() -> None:
    metric = metrics.load("accuracy")
    metric.add_batch(predictions=GUESS[:2], references=TRUTH[:2])
    metric.add_batch(predictions=GUESS[2:], references=TRUTH[2:])
    assert metric.compute() == {"accuracy": pytest.approx(4 / 6)}


@pytest.mark.parametrize(
    # Per label, F1 = 2·right / (predicted + true): 0 -> 2/3, 1 -> 2/4, 2 -> 4/5; each label is true twice.
    "average, expected",
    [("macro", (2 / 3 + 1 / 2 + 4 / 5) / 3), ("micro", 4 / 6), ("weighted", (2 / 3 + 1 / 2 + 4 / 5) / 3)],
)
def test_f1_averages(average: str, expected: float) -> None:
    result = metrics.load("f1").compute(predictions=GUESS, references=TRUTH, average=average)
    assert result["f1"] == pytest.approx(expected)


def test_f1_binary_and_per_label() -> None:
    metric = metrics.load("f1")
    assert metric.compute(predictions=[1, 1, 0, 0], references=[1, 0, 1, 1])["f1"] == pytest.approx(2 / 5)
    assert metric.compute(predictions=[0, 0], references=[0, 0])["f1"] == 0.0
    per_label = metric.compute(predictions=GUESS, references=TRUTH, average=None)["f1"]
    assert per_label == pytest.approx([2 / 3, 1 / 2, 4 / 5])


def test_matthews_correlation() -> None:
    # tp=2, tn=1, fp=1, fn=1: (2·1 - 1·1) / sqrt(3·3·2·2)
    result = metrics.load("matthews_correlation").compute(predictions=[1, 1, 1, 0, 0], references=[1, 1, 0, 1, 0])
    assert result == {"matthews_correlation": pytest.approx(1 / 6)}


def test_perplexity_weighs_tokens_not_batches() -> None:
    metric = metrics.load("perplexity")
    nll, count = [10 * math.log(4.0), 0.0], [10, 30]
    assert metric.compute(nll=nll, count=count)["perplexity"] == pytest.approx(math.sqrt(2.0))
    mean_of_means = math.exp(np.mean(np.divide(nll, count)))
    assert mean_of_means == pytest.approx(2.0)  # what weighing batches alike would say
    assert metric.compute(nll=[1e5], count=[1]) == {"perplexity": math.inf, "mean_nll": 1e5}
    with pytest.raises(ValueError, match="counts"):
        metric.compute(nll=[1.0], count=[0])


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews_correlation", "seqeval"])
def test_refuses_nothing_and_columns_of_different_length(name: str) -> None:
    metric = metrics.load(name)
    with pytest.raises(ValueError, match=f"{metric.name}.*no predictions"):
        metric.compute(predictions=[], references=[])
    with pytest.raises(ValueError, match="no predictions"):
        metric.compute()
    rows = [["O"], ["B-A"], ["O"]] if name == "seqeval" else [1, 0, 1]
    with pytest.raises(ValueError, match="3 predictions, 2 references"):
        metric.compute(predictions=rows, references=rows[:2])
    metric.compute(predictions=rows, references=rows)  # still usable after a refusal


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"'acuracy'.*there are accuracy, chrf, f1.*Did you mean 'accuracy'"):
        metrics.load("acuracy")
