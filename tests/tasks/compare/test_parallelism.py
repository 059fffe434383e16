"""The claim that recurrent networks are sequential and Transformers parallel."""

import pytest
import torch

from hf_seqmodels.tasks.compare.claim import BUDGETS, BudgetName, Row, num_seeds
from hf_seqmodels.tasks.compare.claims import parallelism
from hf_seqmodels.tasks.compare.claims.parallelism import CLAIM, DECODERS, PARALLEL, RECURRENT
from hf_seqmodels.tasks.compare.rows import mean_of, values_of
from hf_seqmodels.tasks.compare.texts import LANGUAGES, claim_texts
from hf_seqmodels.tasks.model_sizes import num_trained

MODELS = [*RECURRENT, *PARALLEL]
SIZE = 20_000


def made_rows(transformer: float = 1.0, transformer_kept: int = 100, transformer_chain: int = 0) -> list[Row]:
    """Lengths 16 to 256: LSTM and GRU take 2 µs at each, the Transformer so much more with every octave."""
    rows: list[Row] = []
    for place, length in enumerate((16, 64, 256)):
        for model in MODELS:
            recurrent = model in RECURRENT
            chain = 2 * length if recurrent else 9 + transformer_chain * length
            rows.append({"model": model, "length": length, "chain": chain})
            for seed in range(2):
                time = 2.0 + 0.01 * seed if recurrent else transformer * 2.0**place
                row = {"model": model, "seed": seed, "num_parameters": 1000}
                rows.append({**row, "length": length, "training_microseconds": time})
                kept = 50 if recurrent else transformer_kept * length
                if model in DECODERS:
                    rows.append({**row, "position": length, "decoding_microseconds": time, "cache_bytes": kept})
    return rows


@pytest.mark.parametrize("budget", BUDGETS)
def test_models_have_one_size(budget: BudgetName) -> None:
    for settings in (cell.settings for cell in CLAIM.cells(budget) if not cell.settings.get("seed")):
        longest = max(settings.get("lengths", [0]) + settings.get("positions", [0]))
        with torch.device("meta"):
            built = [parallelism.build(model, settings["num_parameters"], longest) for model in settings["models"]]
        sizes = [num_trained(model) for model in built]
        assert max(sizes) / min(sizes) < 1.1, sizes


def test_chains_grow_with_length_in_recurrent_models_alone() -> None:
    shares: list[float] = []
    rows = parallelism.measure_chains(shares.append, MODELS, SIZE, [4, 16])
    assert shares == sorted(shares) and shares[-1] == 1
    for model in RECURRENT:  # two layers, and the output
        assert [mean_of(rows, "chain", model=model, length=length) for length in (4, 16)] == [9, 33]
    # Six products a layer: keys, scores, values, output and two of the feed-forward network; and BERT's head of two.
    assert [row["chain"] for row in rows if row["model"] == "seq_bert"] == [14, 14]
    # An encoder's layer of six, its keys in the decoder's last layer, and what follows; or ten a layer without it.
    short, long = (row["chain"] for row in rows if row["model"] == "vanilla_transformer")
    assert short == long > 14


def test_training_and_decoding_are_measured() -> None:
    shares: list[float] = []
    trained = parallelism.measure_training(shares.append, MODELS, SIZE, tokens=16, lengths=[4, 16], rounds=1, seed=2)
    assert shares[-1] == 1 and len(trained) == 2 * len(MODELS)
    decoded = parallelism.measure_decoding(shares.append, [*DECODERS], SIZE, positions=[4, 16], rounds=1, seed=2)
    assert shares[-1] == 1 and len(decoded) == 2 * len(DECODERS)
    for rows, time in ((trained, "training_microseconds"), (decoded, "decoding_microseconds")):
        assert all(row[time] > 0 and row["seed"] == 2 for row in rows)
        assert len(values_of(rows, "num_parameters")) == len(values_of(rows, "model"))
    kept = {model: [row["cache_bytes"] for row in decoded if row["model"] == model] for model in DECODERS}
    assert kept["lstm"][0] == kept["lstm"][1] and kept["gru"][0] == kept["gru"][1]
    assert kept["vanilla_transformer"][1] == 4 * kept["vanilla_transformer"][0]


def test_a_decoding_step_ends_where_it_began() -> None:
    network = parallelism.build("vanilla_transformer", SIZE, 64).eval()
    step, kept = parallelism._decoding(network, "vanilla_transformer", 8)
    for _ in range(10):  # would be longer than its positions otherwise
        step()
    assert kept == parallelism._decoding(network, "vanilla_transformer", 8)[1]


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_is_timed_is_alone_and_repeated(budget: BudgetName) -> None:
    cells = CLAIM.cells(budget)
    timed = [cell for cell in cells if "seed" in cell.settings]
    assert len(timed) == 2 * num_seeds(budget) and all(cell.exclusive for cell in timed)
    assert len({cell.name for cell in cells}) == len(cells) == len(timed) + 1


def test_the_verdict_needs_chain_and_time_and_cache() -> None:
    held = CLAIM.judge(made_rows())
    assert held.holds
    assert held.numbers["best_length"] == 16 and held.numbers["best_factor"] == 2
    # 2 µs against 1, 2 and 4 at lengths 16, 64 and 256; half a hundredth more, the mean of two seeds.
    assert held.numbers["lstm_training_crossing"] == held.numbers["gru_decoding_crossing"] == "64"
    assert not CLAIM.judge(made_rows(transformer=1.9)).holds
    assert not CLAIM.judge(made_rows(transformer_kept=0)).holds
    assert not CLAIM.judge(made_rows(transformer_chain=1)).holds
    assert CLAIM.judge(made_rows(transformer=9.0)).numbers["lstm_training_crossing"] == "no_crossing"


@pytest.mark.parametrize("language", LANGUAGES)
def test_figures(language: str) -> None:
    texts = claim_texts("parallelism", language)
    figures = CLAIM.draw(made_rows(), texts.labels)
    assert list(figures) == list(texts.figures)
    assert all(len(figure.axes) == 2 for figure in figures.values())
