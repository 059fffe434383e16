"""A small real run of the engine, and a way to end it by kill -9 at a chosen moment."""

import functools
import json
import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hf_seqmodels import SeqBertConfig, SeqBertForMaskedLM, SeqBertForPreTraining
from hf_seqmodels.data.packing import PackedCollator, PaddedCollator
from hf_seqmodels.data.random import Key, generator
from hf_seqmodels.training import Engine, EngineArguments, Phase, TrainResult, open_run_folder

VOCABULARY = 40


class ToyPairs:
    """Random token pairs of unequal length, two shards, `f(seed, key)` like the real datasets."""

    num_shards = 2

    def __init__(self, longest: int, nsp: bool, examples: int = 12):
        self.longest, self.nsp, self.examples = longest, nsp, examples

    def _length(self, epoch: int, shard: int, index: int) -> int:
        return int(generator(0, "length", epoch, shard, index).integers(4, self.longest + 1))

    def example_lengths(self, epoch: int, shard: int) -> np.ndarray:
        return np.array([self._length(epoch, shard, index) for index in range(self.examples)])

    def __getitem__(self, key: Key) -> dict[str, Any]:
        random = generator(1, "tokens", *key)
        length = self._length(*key)
        ids = random.integers(5, VOCABULARY, length)
        labels = np.where(random.random(length) < 0.4, ids, -100)
        example = {"input_ids": ids, "token_type_ids": (np.arange(length) > length // 2).astype(np.int64)}
        example["labels"] = labels
        if self.nsp:
            example["next_sentence_label"] = int(random.integers(2))
        return example


def layer_depths(model: torch.nn.Module) -> dict[str, int]:
    """0 for the embeddings, 1 and 2 for the toy's layers, 3 for what follows."""
    depths = {}
    for name, _ in model.named_parameters():
        layer = re.search(r"layers?\.(\d+)\.", name)
        depths[name] = int(layer[1]) + 1 if layer else 0 if "embeddings" in name else 3
    return depths


@dataclass
class ToyRun:
    """A run, and where to kill it: before a forward call, or when a file is opened or renamed during a save."""

    output_dir: str
    steps: int = 8
    accumulation: int = 2
    batch: int = 2
    workers: int = 0
    dropout: float = 0.1
    packing: bool = False
    nsp: bool = True
    precision: str = "no"
    phases: bool = False
    save_steps: int = 2
    eval_steps: int = 3
    seed: int = 0
    learning_rate: float = 1e-2
    base_learning_rate: float | None = None
    layer_decay: float = 1.0
    ema_decay: float = 0.0
    adam_epsilon: float = 1e-6
    record_gradients: bool = False
    kill_before_forward: int | None = None
    kill_on_event: str | None = None
    kill_on_path: str = ""
    kill_on_occurrence: int = 1

    def arguments(self) -> EngineArguments:
        return EngineArguments(
            output_dir=self.output_dir,
            seed=self.seed,
            max_steps=self.steps,
            per_device_train_batch_size=self.batch,
            gradient_accumulation_steps=self.accumulation,
            learning_rate=self.learning_rate,
            base_learning_rate=self.base_learning_rate,
            layer_decay=self.layer_decay,
            ema_decay=self.ema_decay,
            adam_epsilon=self.adam_epsilon,
            mixed_precision=self.precision,
            dataloader_num_workers=self.workers,
            logging_steps=3,
            eval_steps=self.eval_steps,
            save_steps=self.save_steps,
            save_total_limit=None,
            resume_from_checkpoint="auto",
            disable_tqdm=True,
        )

    def engine(self) -> Engine:
        torch.set_num_threads(1)
        args = self.arguments()
        resume_from = open_run_folder(args)
        torch.manual_seed(self.seed)
        config = SeqBertConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
        )
        model = (SeqBertForPreTraining if self.nsp else SeqBertForMaskedLM)(config)
        if self.layer_decay != 1.0:
            model.layer_depths = functools.partial(layer_depths, model)
        self._arm(model)
        first = self.steps // 2 + 1
        shapes = [(first, 8), (self.steps - first, 16)] if self.phases else [(self.steps, 12)]
        phases = [
            Phase(
                name=f"length {longest}",
                steps=steps,
                dataset=ToyPairs(longest, self.nsp),
                collate=PackedCollator() if self.packing else PaddedCollator(pad_token_id=0),
                batch_size=self.batch,
                token_budget=24 if self.packing else None,
            )
            for steps, longest in shapes
        ]
        engine = Engine(
            model, args, phases, count_items=self.count_items, evaluate=self.evaluate, resume_from=resume_from
        )
        if self.record_gradients and engine.accelerator.is_main_process:
            engine.optimizer.register_step_pre_hook(self._record)
        return engine

    def _record(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [p.grad.double().flatten() for group in optimizer.param_groups for p in group["params"]]
        torch.save(torch.cat(gradients), Path(self.output_dir) / "gradients.pt")

    def count_items(self, batch: dict[str, torch.Tensor]) -> dict[str, int]:
        counts = {"num_items_in_batch": int((batch["labels"] != -100).sum())}
        if self.nsp:
            counts["num_pairs_in_batch"] = len(batch["next_sentence_label"])
        return counts

    def evaluate(self, engine: Engine) -> dict[str, float]:
        torch.rand(3)  # an evaluation that draws random numbers must not change training
        data = ToyPairs(8, self.nsp)
        batch = PaddedCollator(pad_token_id=0)([data[Key(0, 0, index)] for index in range(4)])
        return {"loss": engine.model(**batch).loss.item()}

    def _arm(self, model: torch.nn.Module) -> None:
        calls = {"forward": 0, "event": 0}

        def before_forward(*_: Any) -> None:
            calls["forward"] += model.training
            if calls["forward"] == self.kill_before_forward:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_event(event: str, arguments: tuple[Any, ...]) -> None:
            if event == self.kill_on_event and self.kill_on_path in str(arguments[0]):
                calls["event"] += 1
                if calls["event"] == self.kill_on_occurrence:
                    os.kill(os.getpid(), signal.SIGKILL)

        if self.kill_before_forward is not None:
            model.register_forward_pre_hook(before_forward)
        if self.kill_on_event is not None:
            sys.addaudithook(on_event)


def run(toy: ToyRun) -> TrainResult:
    """Trains to the end, in this process."""
    return toy.engine().train()


def run_in_process(toy: ToyRun) -> int:
    """Trains in a process of its own (a fork: everything is imported already); its exit code, -9 if it was killed."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(toy,))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def run_in_two_processes(toy: ToyRun) -> list[int]:
    """Trains in two processes over gloo, as `torchrun --nproc_per_node 2` starts them; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_run_rank, args=(toy, rank, port)) for rank in range(2)]
    for process in processes:
        process.start()
    (first, *_) = multiprocessing.connection.wait([process.sentinel for process in processes])
    ended = next(process for process in processes if process.sentinel == first)
    ended.join()  # its end is seen a little before its exit code
    failed = ended.exitcode != 0
    for process in processes:
        # When one is killed, the other waits for it in vain; else it only needs its time, on a busy machine too.
        process.join(timeout=5 if failed else 60)
        process.kill()
        process.join()
    return [process.exitcode or 0 for process in processes]


def _run_rank(toy: ToyRun, rank: int, port: int) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), ACCELERATE_USE_CPU="true")
    run(toy)


def remains(folder: str | Path) -> dict[str, Any]:
    """Everything that two equal runs must have in common, bit for bit."""
    last = sorted(Path(folder).glob("checkpoint-*"))[-1]
    state = json.loads((last / "training_state.json").read_text())
    optimizer = torch.load(last / "optimizer.pt", weights_only=True)
    moments = {f"{key}.{name}": value for key, slots in optimizer["state"].items() for name, value in slots.items()}
    return {
        "weights": (last / "model.safetensors").read_bytes(),
        "average": [path.read_bytes() for path in last.glob("ema.safetensors")],
        "rng": {path.name: path.read_bytes() for path in last.glob("rng-*")},
        "carried": {path.name: path.read_bytes() for path in last.glob("carried-*")},
        "moments": {name: value.numpy().tobytes() for name, value in moments.items()},
        "history": state["history"],
        "cursor": state["cursor"],
        "step": state["step"],
    }


if __name__ == "__main__":
    result = run(ToyRun(**json.loads(sys.argv[1])))
    print(json.dumps({key: value for key, value in asdict(result).items() if key != "history"}))
