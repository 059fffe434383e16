"""Contract 8: a saved model loads, with the same outputs, where this package cannot be imported."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.dynamic_module_utils import get_relative_import_files

import hf_seqmodels
from hf_seqmodels import LSTMConfig, LSTMForCausalLM, SeqBertForMaskedLM, SeqViTImageProcessor
from hf_seqmodels.registry import ARCHITECTURES
from tests.contracts.cases import CASES, Case, case_named, name_of

MODELS = Path(hf_seqmodels.__file__).parent / "models"

# What the other process does first; in it, `import hf_seqmodels` is an ImportError.
ABROAD = """
import sys
sys.modules["hf_seqmodels"] = None
import json, torch, transformers
from pathlib import Path

def load(auto_class, folder, **kwargs):
    return getattr(transformers, auto_class).from_pretrained(folder, trust_remote_code=True, **kwargs).eval()

def outputs(model, batch):
    with torch.no_grad():
        return {name: value for name, value in model(**batch).items() if isinstance(value, torch.Tensor)}
"""


def abroad(program: str, folder: Path) -> str:
    """What a program prints in a process that knows nothing of this package; its modules' cache is in `folder`."""
    run = subprocess.run(
        [sys.executable, "-c", ABROAD + textwrap.dedent(program)],
        cwd=folder,
        env={**os.environ, "HF_MODULES_CACHE": str(folder / "modules")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def outputs(model: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {name: value for name, value in model(**batch).items() if isinstance(value, torch.Tensor)}


@pytest.fixture(scope="module")
def trip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every class saved here and loaded there through its Auto class: its name -> what went wrong, or None.

    AutoBackbone finds no local folders in transformers 5.23, so that one is loaded as AutoModel finds the rest.
    """
    folder = tmp_path_factory.mktemp("trip")
    cases = [case for case in CASES if isinstance(case.key, str) and case.key != "AutoBackbone"]
    for case in cases:
        case.model().save_pretrained(folder / name_of(case))
        batch = case.batch()
        # loaded here, too: where a file maps weights in memory decides the last bit of a product
        expected = outputs(case.load(folder / name_of(case)).eval(), batch)
        torch.save((batch, expected), folder / f"{name_of(case)}.pt")
    printed = abroad(
        f"""
        found = {{}}
        for name, auto_class in {[(name_of(case), case.key) for case in cases]}:
            batch, expected = torch.load(f"{{name}}.pt", weights_only=True)
            try:
                model = load(auto_class, str(Path(name).resolve()))
                assert type(model).__name__ == name and "hf_seqmodels" not in type(model).__module__
                got = outputs(model, batch)
                assert got.keys() == expected.keys()
                wrong = [key for key in expected if not torch.equal(got[key], expected[key])]
                found[name] = f"different: {{wrong}}" if wrong else None
            except Exception as error:
                found[name] = repr(error)
        print(json.dumps(found))
        """,
        folder,
    )
    return json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize("case", [c for c in CASES if isinstance(c.key, str) and c.key != "AutoBackbone"], ids=name_of)
def test_loads_abroad_with_the_same_outputs(case: Case, trip: dict[str, Any]) -> None:
    assert trip[name_of(case)] is None


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_exactly_the_needed_files_travel(case: Case, tmp_path: Path) -> None:
    """Those of every head of the architecture, so that one checkpoint goes on to any task, and nothing else."""
    case.model().save_pretrained(tmp_path)
    (architecture,) = (a for a in ARCHITECTURES if a.config is case.model_class.config_class)
    classes = {"AutoConfig": architecture.config, **architecture.models}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"] == {
        name: f"{cls.__module__.split('.')[-1]}.{cls.__name__}" for name, cls in classes.items()
    }
    needed = {MODELS / f"{reference.split('.')[0]}.py" for reference in config["auto_map"].values()}
    needed |= {Path(file) for start in list(needed) for file in get_relative_import_files(start)}
    written = {path.name: path for path in tmp_path.glob("*.py")}
    assert written.keys() == {path.name for path in needed}
    assert all(written[path.name].read_bytes() == path.read_bytes() for path in needed)


def test_travelling_code_imports_nothing_that_stays_at_home() -> None:
    for path in MODELS.glob("*.py"):
        assert not re.search(r"^\s*(from|import) hf_seqmodels", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_a_saved_configuration_travels_alone(tmp_path: Path) -> None:
    case_named("SeqBertForMaskedLM").config().save_pretrained(tmp_path)
    assert "AutoModelForMaskedLM" in json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert (tmp_path / "modeling_bert_pretraining.py").is_file()


def test_with_the_package_ours_is_used_and_no_trust_is_needed(tmp_path: Path) -> None:
    case_named("LSTMForCausalLM").model().save_pretrained(tmp_path)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)) is LSTMForCausalLM
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)) is LSTMForCausalLM
    assert type(AutoConfig.from_pretrained(tmp_path)) is LSTMConfig


SUBCLASS = '''
import torch
from hf_seqmodels import (
    LSTMConfig,
    LSTMForCausalLM as Base,
)
from .helper import shift


class ShoutingLSTM(Base):
    """Its logits are shifted."""

    def forward(self, input_ids=None, **kwargs):
        from hf_seqmodels.models.losses import token_cross_entropy  # inside a function, too

        assert token_cross_entropy
        outputs = super().forward(input_ids=input_ids, **kwargs)
        outputs.logits = shift(outputs.logits)
        return outputs
'''


def users_module(folder: Path, text: str, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of a user's own package, with a helper beside it."""
    package = folder / "home" / "their_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("def shift(logits):\n    return logits + 3\n")
    (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder / "home"))
    for module in [module for module in sys.modules if module.startswith("their_package")]:
        monkeypatch.delitem(sys.modules, module)
    return __import__(f"their_package.{name}", fromlist=["*"])


def test_a_users_subclass_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own siblings; what it imports of this package is imported from the files beside it."""
    theirs = users_module(tmp_path, SUBCLASS, "shouting", monkeypatch)
    case = case_named("LSTMForCausalLM")
    theirs.ShoutingLSTM(case.config()).double().save_pretrained(tmp_path / "saved")
    model, batch = theirs.ShoutingLSTM.from_pretrained(tmp_path / "saved").eval(), case.batch()
    torch.save((batch, outputs(model, batch)), tmp_path / "expected.pt")
    assert (tmp_path / "saved" / "helper.py").is_file()
    written = (tmp_path / "saved" / "shouting.py").read_text()
    assert "from .modeling_rnn_lm import LSTMForCausalLM as Base" in written and "hf_seqmodels" not in written
    printed = abroad(
        """
        model = load("AutoModelForCausalLM", str(Path("saved").resolve()))
        batch, expected = torch.load("expected.pt", weights_only=True)
        assert all(torch.equal(value, expected[name]) for name, value in outputs(model, batch).items())
        model.save_pretrained("again")  # from a copy, the configuration and this head go on
        again = load("AutoModelForCausalLM", str(Path("again").resolve()))
        torch.testing.assert_close(outputs(again, batch)["logits"], expected["logits"], rtol=0, atol=1e-12)
        print(type(again).__name__, sorted(again.config.auto_map))
        # another head of the same checkpoint
        print(type(load("AutoModelForTokenClassification", str(Path("saved").resolve()))).__name__)
        """,
        tmp_path,
    )
    assert printed.splitlines() == [
        "ShoutingLSTM ['AutoConfig', 'AutoModel', 'AutoModelForCausalLM']",
        "LSTMForTokenClassification",
    ]


OWN_CONFIG = '''
from huggingface_hub.dataclasses import strict
from hf_seqmodels.models.configuration_rnn import LSTMConfig


@strict
class ShoutingConfig(LSTMConfig):
    """An architecture of the user's."""

    model_type = "shouting"
    volume: int = 3
'''

OWN_MODEL = '''
from hf_seqmodels import LSTMForCausalLM
from .configuration_shouting import ShoutingConfig


class ShoutingForCausalLM(LSTMForCausalLM):
    """Louder."""

    config_class = ShoutingConfig

    def forward(self, input_ids=None, **kwargs):
        outputs = super().forward(input_ids=input_ids, **kwargs)
        outputs.logits = outputs.logits * self.config.volume
        return outputs
'''


def test_a_users_configuration_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "home" / "their_package"
    theirs = users_module(tmp_path, OWN_CONFIG, "configuration_shouting", monkeypatch)
    theirs.ShoutingConfig.register_for_auto_class()
    (package / "modeling_shouting.py").write_text(OWN_MODEL)
    modeling = __import__("their_package.modeling_shouting", fromlist=["*"])
    case = case_named("LSTMForCausalLM")
    config = theirs.ShoutingConfig(**case.config().to_diff_dict() | {"volume": 5})
    modeling.ShoutingForCausalLM(config).double().save_pretrained(tmp_path / "saved")
    model, batch = modeling.ShoutingForCausalLM.from_pretrained(tmp_path / "saved").eval(), case.batch()
    torch.save((batch, outputs(model, batch)), tmp_path / "expected.pt")
    printed = abroad(
        """
        model = load("AutoModelForCausalLM", str(Path("saved").resolve()))
        batch, expected = torch.load("expected.pt", weights_only=True)
        assert all(torch.equal(value, expected[name]) for name, value in outputs(model, batch).items())
        print(model.config.model_type, model.config.volume, sorted(model.config.auto_map))
        """,
        tmp_path,
    )
    assert printed == "shouting 5 ['AutoConfig', 'AutoModelForCausalLM']\n"


def test_what_cannot_travel_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import hf_seqmodels\n\n\nclass Mine(hf_seqmodels.LSTMForCausalLM):\n    pass\n"
    theirs = users_module(tmp_path, text, "mine", monkeypatch)
    warnings: list[str] = []
    monkeypatch.setattr("hf_seqmodels.remote_code.logger.warning", warnings.append)
    theirs.Mine(case_named("LSTMForCausalLM").config()).save_pretrained(tmp_path / "saved")
    assert warnings == [
        "mine.py, line 1: `import hf_seqmodels` cannot travel; `from hf_seqmodels import …` can. "
        "The checkpoint loads only where hf_seqmodels is installed."
    ]


def test_a_file_named_like_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from hf_seqmodels import LSTMForCausalLM\n\n\nclass Mine(LSTMForCausalLM):\n    pass\n"
    theirs = users_module(tmp_path, text, "modeling_rnn", monkeypatch)
    with pytest.raises(ValueError, match=r"modeling_rnn\.py, as a file of hf_seqmodels is.*rename yours"):
        theirs.Mine(case_named("LSTMForCausalLM").config()).save_pretrained(tmp_path / "saved")


def test_the_image_processor_travels(tmp_path: Path) -> None:
    case = case_named("SeqViTForImageClassification")
    case.model().save_pretrained(tmp_path / "saved")
    processor = SeqViTImageProcessor(num_channels=2, size={"height": 6, "width": 8})
    processor.save_pretrained(tmp_path / "saved")
    images = [torch.rand(2, 9, 11) for _ in range(2)]
    torch.save((images, processor(images, return_tensors="pt")["pixel_values"]), tmp_path / "expected.pt")
    printed = abroad(
        """
        folder = str(Path("saved").resolve())
        processor = transformers.AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
        images, expected = torch.load("expected.pt", weights_only=True)
        assert torch.equal(processor(images, return_tensors="pt")["pixel_values"], expected)
        print(type(processor).__name__)
        """,
        tmp_path,
    )
    assert printed == "SeqViTImageProcessor\n"


def test_without_code_it_does_not_load_abroad(tmp_path: Path) -> None:
    """The control: the other process really knows nothing of these classes."""
    case_named("SeqBertForMaskedLM").model().save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").glob("*.py"):
        path.unlink()
    printed = abroad(
        """
        try:
            load("AutoModelForMaskedLM", str(Path("saved").resolve()))
        except OSError as error:
            print("configuration_bert.py" in str(error))
        """,
        tmp_path,
    )
    assert printed == "True\n"
    assert SeqBertForMaskedLM.from_pretrained(tmp_path / "saved")
