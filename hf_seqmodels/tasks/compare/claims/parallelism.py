"""Sequential against parallel: what waits for what in training, and what decoding has to keep."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from matplotlib.figure import Figure
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedConfig,
    PreTrainedModel,
)

import hf_seqmodels  # noqa: F401 - plugs our architectures into the Auto classes
from hf_seqmodels.tasks.benchmark.measure import Step
from hf_seqmodels.tasks.compare.claim import BudgetName, Cell, Claim, Labels, Progress, Row, Verdict, num_seeds
from hf_seqmodels.tasks.compare.costs import (
    cache_bytes,
    longest_chain,
    optimizer_of,
    time_steps,
    training_step,
)
from hf_seqmodels.tasks.compare.curves import worded_crossings
from hf_seqmodels.tasks.compare.figures import close, draw_lines, panels
from hf_seqmodels.tasks.compare.rows import mean_of, select, values_of
from hf_seqmodels.tasks.model_sizes import nearest_width, num_trained

RECURRENT = ("lstm", "gru")
PARALLEL = ("vanilla_transformer", "seq_bert")
DECODERS = ("lstm", "gru", "vanilla_transformer")
_VOCAB_SIZE = 256
_LAYERS, _HEADS = 2, 2
# So many that the core's nearest cache does not hold them: what thin products cost, which read all weights for a few
# rows, is hidden in smaller models.
_NUM_PARAMETERS = 2_000_000
_DECODED = 8  # tokens of a decoding step
_FASTER = 1.1  # times as many tokens in a second


def measure_chains(progress: Progress, models: list[str], num_parameters: int, lengths: list[int]) -> list[Row]:
    """The longest chain of matrix products of a forward pass over one sequence of each length."""
    rows: list[Row] = []
    pairs = list(itertools.product(models, lengths))
    networks = {model: build(model, num_parameters, max(lengths), attention="eager").eval() for model in models}
    for number, (model, length) in enumerate(pairs):
        network = networks[model]
        inputs = _inputs(model, torch.zeros(1, length, dtype=torch.long))
        with torch.no_grad(), longest_chain() as chain:
            network(**inputs)
        rows.append({"model": model, "length": length, "chain": chain[0]})
        progress((number + 1) / len(pairs))
    return rows


def measure_training(
    progress: Progress, models: list[str], num_parameters: int, tokens: int, lengths: list[int], rounds: int, seed: int
) -> list[Row]:
    """Time of a training step of always as many tokens, in fewer rows the longer they are."""
    torch.manual_seed(seed)
    steps: dict[str, Step] = {}
    rows: list[Row] = []
    for model in models:
        network = build(model, num_parameters, max(lengths)).train()
        optimizer = optimizer_of(network)
        for length in lengths:
            ids = torch.randint(1, _VOCAB_SIZE, (tokens // length, length))
            steps[f"{model} {length}"] = training_step(optimizer, _loss(network, _inputs(model, ids, labels=True)))
            rows.append({"model": model, "seed": seed, "length": length, "num_parameters": num_trained(network)})
    timings = time_steps(steps, rounds, progress)
    for row in rows:
        row["training_microseconds"] = timings[f"{row['model']} {row['length']}"].median / tokens * 1e6
    return rows


def measure_decoding(
    progress: Progress, models: list[str], num_parameters: int, positions: list[int], rounds: int, seed: int
) -> list[Row]:
    """Time of a token after so many others, and the bytes of what is kept of them; one sequence, greedy."""
    torch.manual_seed(seed)
    steps: dict[str, Step] = {}
    rows: list[Row] = []
    for model in models:
        network = build(model, num_parameters, max(positions) + _DECODED).eval()
        row: Row = {"model": model, "seed": seed, "num_parameters": num_trained(network)}
        for position in positions:
            steps[f"{model} {position}"], kept = _decoding(network, model, position)
            rows.append({**row, "position": position, "cache_bytes": kept})
    timings = time_steps(steps, rounds, progress)
    for row in rows:
        row["decoding_microseconds"] = timings[f"{row['model']} {row['position']}"].median / _DECODED * 1e6
    return rows


def build(model: str, num_parameters: int, longest: int, attention: str = "sdpa") -> PreTrainedModel:
    """A language model of about so many parameters.

    A Transformer whose source is one token is a language model with an idle encoder, made as small as it can be.
    BERT predicts every token of its input: the same work, though not causal.
    """

    def of_width(width: int) -> PreTrainedModel:
        return _from_config(_config(model, width, longest), attention)

    return of_width(nearest_width(of_width, num_parameters, 2 * _HEADS))


def _config(model: str, width: int, longest: int) -> PreTrainedConfig:
    fields: dict[str, Any] = {"vocab_size": _VOCAB_SIZE, "tie_word_embeddings": True, "pad_token_id": 0}
    if model in RECURRENT:
        return AutoConfig.for_model(model, **fields, hidden_size=width, num_hidden_layers=_LAYERS)
    fields |= {"max_position_embeddings": longest}
    if model == "seq_bert":
        fields |= {
            "hidden_size": width,
            "num_hidden_layers": _LAYERS,
            "num_attention_heads": _HEADS,
            "intermediate_size": 4 * width,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "sparse_prediction": False,
        }
    else:
        fields |= {
            "d_model": width,
            "encoder_layers": 1,
            "encoder_ffn_dim": 1,
            "decoder_layers": _LAYERS,
            "decoder_ffn_dim": 4 * width,
            "encoder_attention_heads": _HEADS,
            "decoder_attention_heads": _HEADS,
            "dropout": 0.0,
            "decoder_start_token_id": 0,
        }
    return AutoConfig.for_model(model, **fields)


def _from_config(config: PreTrainedConfig, attention: str) -> PreTrainedModel:
    if config.model_type in RECURRENT:
        return AutoModelForCausalLM.from_config(config)
    auto_class = AutoModelForMaskedLM if config.model_type == "seq_bert" else AutoModelForSeq2SeqLM
    return auto_class.from_config(config, attn_implementation=attention)


def _inputs(model: str, ids: torch.Tensor, labels: bool = False) -> dict[str, torch.Tensor]:
    inputs = {"input_ids": ids}
    if model == "vanilla_transformer":
        inputs = {"input_ids": ids.new_zeros(len(ids), 1), "decoder_input_ids": ids}
    return {**inputs, "labels": ids} if labels else inputs


def _loss(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Callable[[], torch.Tensor]:
    return lambda: model(**inputs).loss


@torch.inference_mode()
def _decoding(network: PreTrainedModel, model: str, position: int) -> tuple[Step, int]:
    """A step that decodes tokens after so many, and the bytes of the cache before them."""
    inputs = _inputs(model, torch.randint(1, _VOCAB_SIZE, (1, position)))
    first = network(**inputs, use_cache=True)
    cache, token = first.past_key_values, first.logits[:, -1:].argmax(-1)
    rest = {}
    if model == "vanilla_transformer":
        rest["encoder_outputs"] = (first.encoder_last_hidden_state,)
    name = "decoder_input_ids" if rest else "input_ids"

    @torch.inference_mode()
    def step() -> None:
        current = token
        for _ in range(_DECODED):
            current = network(**{name: current}, **rest, past_key_values=cache, use_cache=True).logits.argmax(-1)
        if rest:  # back to the position; a state is as large and as fast anywhere
            cache.self_attention_cache.crop(-_DECODED)

    return step, cache_bytes(cache)


def cells(budget: BudgetName) -> list[Cell]:
    """Chains are exact and need one cell; times have one for each repetition."""
    longest = {"quick": 512, "standard": 2048, "full": 4096}[budget]
    training_seconds, decoding_seconds = {"quick": (17, 4), "standard": (100, 20), "full": (220, 50)}[budget]
    lengths = [length for length in (16, 64, 256, 512, 1024, 2048, 4096) if length <= longest]
    models = [*RECURRENT, *PARALLEL]
    # The number of products does not depend on how large they are.
    chains = {"models": models, "num_parameters": 100_000, "lengths": [16, 64, 256, 1024]}
    training = {
        "models": models,
        "num_parameters": _NUM_PARAMETERS,
        "tokens": longest,
        "lengths": lengths,
        "rounds": 3,
    }
    decoding = {
        "models": [*DECODERS],
        "num_parameters": _NUM_PARAMETERS,
        "positions": [*lengths, 4 * longest],
        "rounds": 5,
    }
    found = [Cell("parallelism-chains", measure_chains, chains, 3)]
    for seed in range(num_seeds(budget)):
        settings = {**training, "seed": seed}
        found.append(Cell(f"parallelism-training-{seed}", measure_training, settings, training_seconds, True))
        settings = {**decoding, "seed": seed}
        found.append(Cell(f"parallelism-decoding-{seed}", measure_decoding, settings, decoding_seconds, True))
    return found


def judge(rows: list[Row]) -> Verdict:
    """It holds if three things are so, of which the last two are measured.

    The chain grows with length in the recurrent models and in no other; at one length at least, the Transformer
    trains 1.1 times as fast as both LSTM and GRU; and its cache grows with the position while theirs do not.
    """
    chains, training = (
        {model: _curve(rows, model, "length", y) for model in (*RECURRENT, *PARALLEL)}
        for y in ("chain", "training_microseconds")
    )
    decoding, kept = (
        {model: _curve(rows, model, "position", y) for model in DECODERS}
        for y in ("decoding_microseconds", "cache_bytes")
    )
    first, last = (end(chains["lstm"]) for end in (min, max))
    own = training["vanilla_transformer"]
    faster = {place: min(training[model][place] for model in RECURRENT) / own[place] for place in own}
    numbers: dict[str, float | int | str] = {
        "factor": _FASTER,
        "chain_per_token": close((chains["lstm"][last] - chains["lstm"][first]) / (last - first)),
        "chain_length": last,
        "shortest": min(own),
        "longest": max(own),
        "near": min(decoding["lstm"]),
        "far": max(decoding["lstm"]),
        "best_factor": close(max(faster.values())),
        "best_length": max(faster, key=faster.__getitem__),
    }
    for model in (*RECURRENT, *PARALLEL):
        numbers[f"{model}_chain"] = round(chains[model][last])
        numbers[f"{model}_shortest"] = close(training[model][min(own)])
        numbers[f"{model}_longest"] = close(training[model][max(own)])
    for model in DECODERS:
        numbers[f"{model}_near"] = close(decoding[model][min(decoding[model])])
        numbers[f"{model}_far"] = close(decoding[model][max(decoding[model])])
        numbers[f"{model}_kept"] = close(kept[model][max(kept[model])] / 1024)
    for model in RECURRENT:
        numbers[f"{model}_training_crossing"] = worded_crossings([*own], [*training[model].values()], [*own.values()])
        numbers[f"{model}_decoding_crossing"] = worded_crossings(
            [*decoding[model]], [*decoding[model].values()], [*decoding["vanilla_transformer"].values()]
        )
    grows = {model: curve[last] > curve[first] for model, curve in chains.items()}
    keeps_more = {model: max(curve.values()) > min(curve.values()) for model, curve in kept.items()}
    holds = (
        all(grows[model] == (model in RECURRENT) for model in grows)
        and max(faster.values()) >= _FASTER
        and all(keeps_more[model] != (model in RECURRENT) for model in keeps_more)
    )
    return Verdict(holds, numbers)


def _curve(rows: list[Row], model: str, x: str, y: str) -> dict[int, float]:
    """Place -> mean, in the order of places."""
    own = [row for row in select(rows, model=model) if y in row]
    return {place: mean_of(own, y, **{x: place}) for place in sorted(values_of(own, x))}


def draw(rows: list[Row], labels: Labels) -> dict[str, Figure]:
    """Chains and times of training; times and caches of decoding."""
    training, (chain, time) = panels(2)
    draw_lines(chain, [row for row in rows if "chain" in row], labels, x="length", y="chain", log_x=True, log_y=True)
    trained = [row for row in rows if "training_microseconds" in row]
    draw_lines(time, trained, labels, x="length", y="training_microseconds", log_x=True, log_y=True)
    decoding, (time, cache) = panels(2)
    decoded = [{**row, "cache_kib": row["cache_bytes"] / 1024} for row in rows if "cache_bytes" in row]
    draw_lines(time, decoded, labels, x="position", y="decoding_microseconds", log_x=True)
    draw_lines(cache, decoded, labels, x="position", y="cache_kib", log_x=True, log_y=True)
    return {"training": training, "decoding": decoding}


CLAIM = Claim("parallelism", cells, judge, draw)
