"""The accelerate engine: an exact, resumable training loop that knows nothing of any model."""

from hf_seqmodels.training.arguments import EngineArguments
from hf_seqmodels.training.engine import Engine, TrainResult
from hf_seqmodels.training.errors import CheckpointError, NonFiniteLossError, PushError, TrainingError
from hf_seqmodels.training.phases import Phase
from hf_seqmodels.training.run_folder import open_run_folder
from hf_seqmodels.training.trainer import PretrainingTrainer

__all__ = [
    "CheckpointError",
    "Engine",
    "EngineArguments",
    "NonFiniteLossError",
    "Phase",
    "PretrainingTrainer",
    "PushError",
    "TrainResult",
    "TrainingError",
    "open_run_folder",
]
