"""Every model class with its toy (`toys.py`): models, rows and batches, and what their outputs are compared by."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from hf_seqmodels.registry import ARCHITECTURES
from tests.contracts.images import Images
from tests.contracts.text import IGNORE, Text
from tests.contracts.toys import TOYS, Head, Row, Toy
from tests.contracts.translation import TextToText

EXACT = {"rtol": 0, "atol": 1e-12}  # float64 sums in another order


@dataclass(frozen=True)
class Case:
    """One class with its toy."""

    key: str | type[PreTrainedModel]
    model_class: type[PreTrainedModel]
    toy: Toy

    @property
    def head(self) -> Head:
        return self.toy.heads[self.key]

    @property
    def auto(self) -> Any:
        """The Auto class, or the class itself where there is none."""
        return getattr(transformers, self.key) if isinstance(self.key, str) else self.model_class

    def load(self, folder: Any, **kwargs: Any) -> Any:
        """From a local folder, through the Auto class; but transformers 5.23's AutoBackbone asks the Hub for it."""
        return (self.model_class if self.key == "AutoBackbone" else self.auto).from_pretrained(folder, **kwargs)

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """The architecture's and the head's own."""
        return {**self.toy.variants, **self.head.variants}

    def config(self, **overrides: Any) -> Any:
        return self.model_class.config_class(**{**self.toy.config, **self.head.config, **overrides})

    def model(self, dtype: torch.dtype = torch.float64, **overrides: Any) -> Any:
        """A model with the same weights at every call, none of them at a value that hides it; in eval mode."""
        torch.manual_seed(1)
        model = self.model_class(self.config(**overrides)).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model.to(dtype).eval()

    def row(self, length: int) -> Row:
        """One example without batch dimension or padding: inputs and targets."""
        row, tokens = self.toy.modality.draw(max(length, self.head.shortest), self.head.extra_dims)
        row |= {name: draw(tokens) for name, draw in self.head.targets.items()}
        return {name: values[0] for name, values in row.items()}

    def batch(self, lengths: tuple[int, ...] = (9, 4, 1), targets: bool = True, side: str = "right") -> dict[str, Any]:
        """A padded batch of rows of these lengths; without targets also without their labels."""
        batch = self.collate([self.row(length) for length in lengths], side)
        return batch if targets else self.without_targets(batch)

    def collate(self, rows: list[Row], side: str = "right") -> dict[str, Any]:
        return self.toy.modality.collate(rows, side)

    def alone(self, row: Row) -> dict[str, Any]:
        return self.toy.modality.alone(row)

    def without_targets(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The inputs alone."""
        return self.toy.modality.without_targets(batch)

    def num_items(self, rows: Iterable[Row]) -> int:
        """What the loss of these rows is a mean over."""
        targets = [row["labels"] != IGNORE if "labels" in row else row["bool_masked_pos"] for row in rows]
        return sum(int((target[1:] if self.head.shifts else target).sum()) for target in targets)

    def real_parts(self, outputs: Any, batch: dict[str, Any]) -> dict[str, list[torch.Tensor]]:
        """Each output of each row, without padding."""
        return {
            name: self.toy.modality.real_parts(kind, outputs[name], batch) for name, kind in self.head.outputs.items()
        }

    def real_tokens(self, batch: dict[str, Any], model: PreTrainedModel) -> torch.Tensor:
        """`(batch, seq_len)` of the encoder's hidden states: which are no padding."""
        real = batch["attention_mask"].flatten(0, -2).bool()
        if self.head.encodes_visible:
            counts = (real & ~batch["bool_masked_pos"]).sum(1)
            real = torch.arange(int(counts.max())) < counts[:, None]
        return nn.functional.pad(real, (getattr(model.config, "num_prefix_tokens", 0), 0), value=True)


def gradients(model: PreTrainedModel, batch: dict[str, Any]) -> tuple[Any, dict[str, torch.Tensor]]:
    """Outputs and every parameter's gradient of the loss on `batch`."""
    model.zero_grad()
    outputs = model(**batch)
    outputs.loss.backward()
    return outputs, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_equal_gradients(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """The same parameters have gradients, and equal ones."""
    assert got.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(got[name], grad, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@contextlib.contextmanager
def uncompiled_flex() -> Iterator[None]:
    """flex's own definition in plain operations: exact in float64 and quick. (It has no backward on CPUs.)"""
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        yield


def _cases() -> Iterable[Case]:
    for architecture in ARCHITECTURES:
        toy = TOYS[architecture.config.model_type]
        yield from (Case(name, model_class, toy) for name, model_class in architecture.models.items())
        yield from (Case(key, key, toy) for key in toy.heads if isinstance(key, type))


CASES = list(_cases())
TRAINABLE = [case for case in CASES if case.head.targets]
ATTENDING = [case for case in CASES if case.toy.attends]
TEXT, IMAGES, TRANSLATING = (
    [case for case in CASES if isinstance(case.toy.modality, kind)] for kind in (Text, Images, TextToText)
)
ONE_STACK = [case for case in CASES if case not in TRANSLATING]


def name_of(case: Case) -> str:
    """Test id."""
    return case.model_class.__name__


def case_named(name: str) -> Case:
    """The case of a class."""
    return next(case for case in CASES if name_of(case) == name)


def over_variants(cases: list[Case], kernels: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Runs a test with `case` and the `options` of each of its variants; under each kernel, where it has some."""
    return pytest.mark.parametrize(
        ("case", "options"),
        [
            pytest.param(case, {**options, **kernel}, id="-".join([name_of(case), name, *kernel.values()]))
            for case in cases
            for name, options in case.variants.items()
            for kernel in ([{"attn_implementation": kernel} for kernel in kernels] if case.toy.attends else []) or [{}]
        ],
    )
