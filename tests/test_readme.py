"""What the README says of the code is what the code is."""

import re
from pathlib import Path

from hf_seqmodels.registry import ARCHITECTURES

README = Path(__file__).parents[1] / "README.md"


def test_table_of_classes_is_the_registry() -> None:
    rows = set(re.findall(r"^\| `(Auto\w+)` \| `(\w+)` \|$", README.read_text(encoding="utf-8"), re.MULTILINE))
    registered = {
        (auto_class, model.__name__)
        for architecture in ARCHITECTURES
        for auto_class, model in architecture.models.items()
    }
    registered |= {
        ("AutoImageProcessor", architecture.image_processor.__name__)
        for architecture in ARCHITECTURES
        if architecture.image_processor is not None
    }
    assert rows == registered


def test_files_that_commands_name_exist() -> None:
    named = re.findall(r"scripts/[\w/]+\.(?:py|sh|yaml)", README.read_text(encoding="utf-8"))
    named += re.findall(r'src="([^"]+)"', README.read_text(encoding="utf-8"))
    assert named and all((README.parent / name).is_file() for name in named)
