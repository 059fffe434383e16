"""The output folder of a run, checked before any work is done."""

from pathlib import Path

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from hf_seqmodels.training.arguments import EngineArguments
from hf_seqmodels.training.checkpoint import find_checkpoint, remove_unfinished
from hf_seqmodels.training.pushing import HubRepository


def open_run_folder(args: EngineArguments) -> Path | None:
    """Makes the output folder, or finds the checkpoint in it to resume from; checks where the model is to be pushed.

    Returns:
        The checkpoint, or `None` to start anew.

    Raises:
        ValueError: the folder is a file, or is not empty and is not to be resumed; or the repository cannot be
            pushed to.
        CheckpointError: the checkpoint that was asked for is missing or damaged.
    """
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir={args.output_dir!r} is a file; name a folder.")
    # PartialState itself doesn't look at the variable by which accelerate is told to stay on the CPU.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    if args.resume_from_checkpoint is None and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"output_dir={args.output_dir!r} is not empty. Continue that run with --resume_from_checkpoint auto, "
            "or choose another folder."
        )
    if args.push_to_hub:
        HubRepository.of(args).check()
    state.wait_for_everyone()  # all processes have looked before one writes
    with state.main_process_first():
        folder.mkdir(parents=True, exist_ok=True)
        if state.is_main_process:
            remove_unfinished(folder)
    if args.resume_from_checkpoint is None:
        return None
    return find_checkpoint(folder, args.resume_from_checkpoint)
