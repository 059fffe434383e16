"""The process behind `client.Client`: imports the libraries, then forks for each line of its input.

    fork_server.py with|without

A line is JSON with the source of a function, its name and arguments, a token, and a folder for what it prints and
returns. The answer is a line with the exit code. `without` makes `import hf_seqmodels` fail.
"""

import __future__

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

TIMEOUT = 120  # seconds


def serve() -> None:
    """Answers until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(request)
        status = os.waitpid(pid, 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(request: dict[str, Any]) -> None:
    """Runs the function and ends the process as Python ends a program."""
    folder = Path(request["folder"])
    signal.alarm(TIMEOUT)
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    os.environ.pop("HF_TOKEN", None)
    if request["token"] is not None:
        os.environ["HF_TOKEN"] = request["token"]
    code = 0
    try:
        namespace: dict[str, Any] = {"__name__": "__client__"}
        # Annotations stay text: what they name is imported in the tests only.
        flags = __future__.annotations.compiler_flag
        exec(compile(request["source"], request["name"], "exec", flags), namespace)
        value = namespace[request["name"]](**request["arguments"])
        (folder / "value.json").write_text(json.dumps(value))
    finally:
        error = sys.exc_info()[1]
        if isinstance(error, SystemExit):
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            traceback.print_exception(error)
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "without":
        sys.modules["hf_seqmodels"] = None  # type: ignore[assignment]
    import torch
    import transformers

    torch.set_num_threads(1)
    # What a fork would otherwise import anew each time: transformers loads its parts when they are first asked for.
    for name in ("AutoModel", "AutoImageProcessor", "AutoTokenizer", "PreTrainedModel", "Trainer", "GenerationMixin"):
        getattr(transformers, name)
    if sys.argv[1] == "with":
        import hf_seqmodels.tasks.finetune_text
        import hf_seqmodels.tasks.train_lm  # noqa: F401
    serve()
