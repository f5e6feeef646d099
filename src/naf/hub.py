"""The Hugging Face Hub: upsamplers and restorers as repositories of config.json, model.safetensors and README.md.

The layout is that of huggingface_hub's `PyTorchModelHubMixin`, which saves and uploads here (:mod:`naf.hub_mixin`):
its own classes read these folders, and folders that they wrote load here. The mixin is no base class of
:class:`naf.Upsampler`, since `import naf` does without huggingface_hub; `save_pretrained` and `push_to_hub` are
methods there all the same, and end here. For restorers they are functions only.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from naf.hub_files import PREFIX, DownloadError, fetch
from naf.weight_record import WEIGHTS_FILE, RecordError, read_folder_record
from naf.weights import WeightsError

if TYPE_CHECKING:
    from naf.training.network import Network


def from_pretrained(source: str | Path, *, revision: str | None = None, **config: Any) -> Network:
    """The upsampler or restorer that a repository or folder holds, whichever it is.

    Args:
        source: "USER/REPOSITORY", also with "hf:" before it or "@REVISION" behind, or a folder.
        revision: branch, tag or commit of a repository.
        config: constructor arguments that the file does not fix, as for `naf.create`: a backbone, calling options.

    Returns:
        The network in evaluation mode.

    Raises:
        WeightsError: if it cannot be had, does not say which upsampler it holds, or does not fit.
        ValueError: if `config` contradicts it.
    """
    from naf.training.network import create

    folder = Path(source)
    try:
        if not folder.is_dir():
            folder = fetch(str(source).removeprefix(PREFIX), revision)
        record = read_folder_record(folder)
    except (DownloadError, RecordError) as error:
        raise WeightsError(str(error)) from error
    if not (folder / WEIGHTS_FILE).is_file():
        raise WeightsError(f"{source} holds no {WEIGHTS_FILE}; `naf export` and `save_pretrained` write one")
    if record is None or not record.upsampler:
        raise WeightsError(f"{source} does not say which upsampler it holds: naf.create(NAME, weights=…) takes it")
    return create(record.upsampler, weights=folder, **config)


def save_pretrained(upsampler: Network, folder: str | Path, *, card: str | Path | None = None) -> None:
    """Write an upsampler or a restorer as a folder that :func:`from_pretrained` and huggingface_hub's mixin read.

    Args:
        upsampler: made by `naf.create` (a backbone that it is built around is not stored) or `naf.restoration.create`.
        folder: made if need be; files of an earlier call are replaced.
        card: Markdown file that becomes README.md. Default: the card beside the file that the weights came from, or
            else one made of what that file says of itself.

    Raises:
        ValueError: if these did not make it, or there is no such card.
        OSError: if it cannot be written.
    """
    from naf.hub_mixin import HubModel

    HubModel(upsampler, card).save_pretrained(folder)


def push_to_hub(
    upsampler: Network,
    repository: str,
    *,
    card: str | Path | None = None,
    private: bool | None = None,
    branch: str | None = None,
    commit_message: str = "Upload upsampler",
    create_pr: bool | None = None,
    token: str | None = None,
) -> str:
    """Upload an upsampler or a restorer, in one commit; the repository is made if need be.

    Args:
        upsampler: as for :func:`save_pretrained`.
        repository: "USER/REPOSITORY".
        card: as for :func:`save_pretrained`.
        private: of a repository that is made; None for the account's default.
        branch: where to; None for the main branch.
        commit_message: first line of the commit.
        create_pr: open a pull request instead of committing to the branch.
        token: of the account; None for the one that `hf auth login` keeps.

    Returns:
        The address of the commit.

    Raises:
        ValueError: as :func:`save_pretrained`, and for a name that no repository can have.
        huggingface_hub.errors.HfHubHTTPError: if the Hub refuses.
    """
    from naf.hub_mixin import HubModel

    return str(
        HubModel(upsampler, card).push_to_hub(
            repository,
            private=private,
            branch=branch,
            commit_message=commit_message,
            create_pr=create_pr,
            token=token,
        )
    )
