"""Bringing trained models to a repository on the Hub, whatever the network does meanwhile."""

import shlex
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx2  # what huggingface_hub talks with; its errors come through
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)

from hf_seqmodels.models.model_card import CARD_NAME, load_card, settle_pushed
from hf_seqmodels.training.errors import PushError

HUB_STRATEGIES = ("end", "every_save")

# HfHubHTTPError is an HTTPError; files that cannot be read are OSErrors; cards that the Hub refuses are ValueErrors.
_ERRORS = (httpx2.HTTPError, OSError, ValueError)
# Pickled by Trainer, of no use to who loads the model.
_NOT_PUSHED = "training_args.bin"


class _Arguments(Protocol):
    """What `EngineArguments` and transformers' `TrainingArguments` have in common."""

    @property
    def output_dir(self) -> str | None: ...
    @property
    def hub_model_id(self) -> str | None: ...
    @property
    def hub_private_repo(self) -> bool | None: ...


@dataclass(frozen=True)
class HubRepository:
    """Where models are pushed to.

    Args:
        name: `owner/name`, or a name alone for one of the token's own.
        private: whether it is made private, if it is new; `None` leaves that to the owner's settings.
        token: `None` takes `HF_TOKEN` or that of `hf auth login`.
        revision: branch; `None` is `main`.
    """

    name: str
    private: bool | None = None
    token: str | None = None
    revision: str | None = None

    @classmethod
    def of(cls, args: _Arguments) -> "HubRepository":
        """As the arguments of a run say: `hub_model_id`, by default the name of `output_dir`."""
        name = args.hub_model_id or Path(str(args.output_dir)).resolve().name
        token, revision = getattr(args, "hub_token", None), getattr(args, "hub_revision", None)
        return cls(name, args.hub_private_repo, token, revision)

    def open(self) -> str:
        """Makes it if there is none of that name.

        Returns:
            Its full name.
        """
        return HfApi().create_repo(self.name, private=self.private, token=self.token, exist_ok=True).repo_id

    def check(self) -> None:
        """Makes sure that it exists and may be written to: on the main process, for all.

        Raises:
            ValueError: on every process; the message names `hub_model_id` and says what to do.
        """
        refusal: list[str | None] = [None]
        state = PartialState()
        if state.is_main_process:
            try:
                HfApi().auth_check(self.open(), token=self.token, write=True)
            except _ERRORS as error:
                refusal = [f"hub_model_id={self.name!r} cannot be pushed to. {_advice(error)} ({_reason(error)})"]
        broadcast_object_list(refusal)
        if refusal[0] is not None:
            raise ValueError(refusal[0])

    def upload(self, folder: Path, message: str) -> str:
        """Commits the files of a folder, without its sub-folders (checkpoints, logs): all of them, or none.

        Not by `upload_folder`, which makes several commits of a large folder.

        Returns:
            Where the commit can be seen.
        """
        repo_id = self.open()
        self._settle_card(folder, repo_id)
        paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != _NOT_PUSHED)
        return (
            HfApi()
            .create_commit(
                repo_id,
                [CommitOperationAdd(path.name, path) for path in paths],
                commit_message=message,
                token=self.token,
                revision=self.revision,
            )
            .commit_url
        )

    def _settle_card(self, folder: Path, repo_id: str) -> None:
        """Makes the folder's model card that of the repository, whose text is kept where someone has edited it."""
        card = load_card(folder)
        if card is None:
            return
        try:
            path = HfApi().hf_hub_download(repo_id, CARD_NAME, revision=self.revision, token=self.token)
        except (RemoteEntryNotFoundError, RevisionNotFoundError):
            remote = None
        else:
            remote = ModelCard.load(path)
        settle_pushed([card, remote], repo_id).save(folder / CARD_NAME)

    def upload_command(self, folder: Path) -> str:
        """What does the same in a shell."""
        revision = [] if self.revision is None else ["--revision", self.revision]
        excluded = ["--exclude", "*/*", "--exclude", _NOT_PUSHED]
        return shlex.join(["hf", "upload", self.name, str(folder), ".", *excluded, *revision])


class Pusher:
    """Pushes the models of one run; only its main process has one.

    Args:
        repository: where to.
        say: shows a line to the user.

    Attributes:
        pauses: seconds before each further try of the final push.
    """

    pauses: Sequence[float] = (5.0, 30.0, 120.0)

    def __init__(self, repository: HubRepository, say: Callable[[str], object] = print):
        self.repository, self.say = repository, say
        self._thread: threading.Thread | None = None
        self._failure: str | None = None  # that was told, and has not been followed by a success

    @property
    def is_busy(self) -> bool:
        """Whether an upload is under way."""
        return self._thread is not None and self._thread.is_alive()

    def push_aside(self, folder: Path, message: str) -> None:
        """Uploads a folder while training goes on, and removes it. A failure is told once, until a push succeeds.

        A process that ends meanwhile abandons the upload; the repository then stays as it was.
        """
        self._thread = threading.Thread(target=self._push_and_remove, args=(folder, message), daemon=True)
        self._thread.start()

    def _push_and_remove(self, folder: Path, message: str) -> None:
        try:
            self.repository.upload(folder, message)
            self._failure = None
        except _ERRORS as error:
            self.tell(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def tell(self, error: Exception) -> None:
        """Says why a push during training failed, unless it has just said so."""
        reason = _reason(error)
        if reason != self._failure:
            self.say(f"Pushing to {self.repository.name} failed: {reason}. Training goes on; later pushes bring all.")
        self._failure = reason

    def push(self, folder: Path, message: str) -> None:
        """Uploads the trained model, after whatever upload is under way; tries again while the network is down.

        Raises:
            PushError: it failed; the message says where the model lies and how to push it.
        """
        if self._thread is not None:
            self._thread.join()
        for pause in (*self.pauses, None):
            try:
                url = self.repository.upload(folder, message)
            except _ERRORS as error:
                reason = _reason(error)
                if pause is None or not _is_transient(error):
                    raise PushError(
                        f"The trained model was not pushed to {self.repository.name}: {reason}. It is in "
                        f"{folder.resolve()}; push it by:\n  {self.repository.upload_command(folder.resolve())}"
                    ) from error
                self.say(f"Pushing to {self.repository.name} failed: {reason}. Trying again in {pause:g} s.")
                time.sleep(pause)
            else:
                self.say(f"Pushed to {url}.")
                return


def _is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later: no answer, too many requests, trouble of the server's own."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return status in (408, 429) or status >= 500
    # The latter is what a download says that got no answer.
    return isinstance(error, httpx2.RequestError | LocalEntryNotFoundError)


def _reason(error: Exception) -> str:
    """An error in one line, without a full stop."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")


def _advice(error: Exception) -> str:
    """What a user can do about a repository that cannot be pushed to."""
    later = "train without push_to_hub and push the model afterwards"
    if isinstance(error, HFValidationError):
        return "Name it owner/name, of letters, digits, '-', '_' and '.'."
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set: unset it, or {later}."
    if not isinstance(error, HfHubHTTPError):
        return f"The Hub does not answer: check the network and HF_ENDPOINT, or {later}."
    if error.response.status_code == 401:
        return "Log in by `hf auth login`, or set HF_TOKEN to a token that is valid."
    if error.response.status_code in (403, 404):
        return "Set HF_TOKEN to a token that may write there, or choose another hub_model_id."
    return f"Try again later, or {later}."
