"""Programs that talk to the tests' Hub.

The tests' own process is offline, and huggingface_hub reads its endpoint when it is imported; so the client is another
process. Importing torch and transformers takes seconds: that process does it once, and forks for each run.
"""

import inspect
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.hub.server import WRITE_TOKEN

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        code: exit code.
        value: what the function returned.
        output: everything that was printed.
    """

    code: int
    value: Any
    output: str


class Client:
    """A process that runs functions against a Hub, until its `with` block ends.

    Args:
        endpoint: of the Hub.
        home: its `HF_HOME`, a computer's memory of what it has downloaded.
        with_package: whether hf_seqmodels can be imported there.
    """

    def __init__(self, endpoint: str, home: Path, with_package: bool = True):
        home.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_OFFLINE": "1",
            "PYTHONPATH": str(_ROOT) if with_package else "",
            "OMP_NUM_THREADS": "1",
        }
        # The first import of torch takes as long as everything else: it goes on while the tests begin.
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py")), "with" if with_package else "without"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=_ROOT if with_package else home,
        )

    def attempt(self, function: Callable[..., Any], /, token: str | None = WRITE_TOKEN, **arguments: Any) -> Outcome:
        """Runs a function in a fork.

        Args:
            function: of the tests; its source is sent, so it must import what it uses.
            token: `HF_TOKEN`.
            arguments: its arguments, which JSON must be able to hold, as its result.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            request = {
                "source": textwrap.dedent(inspect.getsource(function)),
                "name": function.__name__,
                "arguments": arguments,
                "token": token,
                "folder": folder,
            }
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            value = Path(folder, "value.json")
            return Outcome(
                code,
                json.loads(value.read_text()) if value.is_file() else None,
                Path(folder, "output.txt").read_text(),
            )

    def run(self, function: Callable[..., Any], /, token: str | None = WRITE_TOKEN, **arguments: Any) -> Any:
        """As `attempt`, for what must succeed: its result."""
        outcome = self.attempt(function, token=token, **arguments)
        assert outcome.code == 0, outcome.output
        return outcome.value

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It waits for its next line, and has nothing to put in order; ending as Python does takes it a second or two.
        self._process.kill()
        self._process.communicate()
