"""Files from the Hugging Face hub, through huggingface_hub, into its own cache.

Two things are done here rather than left to ``hf_hub_download``: an interrupted download is
continued (recent versions of that function throw the partial file away), and the SHA-256 is
verified. The finished blob is handed to ``hf_hub_download``, which files it where everyone looks.

Environment variables are read at each call. Heavy imports happen inside the functions.
"""

from __future__ import annotations

import io
import os
import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from pyqwen.catalog.cache import hub_cache_dir, make_dir
from pyqwen.catalog.download import Progress, SourceUnavailableError, require_space, sha256_of
from pyqwen.catalog.known_models import KNOWN_LICENSES, License
from pyqwen.errors import ModelFileError

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

CONNECT_TIMEOUT = 5.0  # seconds until a hub that cannot be reached is given up, in all
READ_TIMEOUT = 10.0  # seconds for one answer of a hub that was reached

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository; ``blob`` names its content: a SHA-256 or, if small, a git id."""

    path: str
    size: int
    blob: str

    @property
    def sha256(self) -> str | None:
        """The checksum of the content, where the hub states one."""
        return self.blob if _SHA256.fullmatch(self.blob) else None


@dataclass(frozen=True, slots=True)
class Repository:
    """What the hub says of a repository at its newest commit."""

    name: str
    commit: str
    files: dict[str, RemoteFile]
    license: License | None


def endpoint() -> str:
    """The address of the hub: ``HF_ENDPOINT`` or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def require_reachable() -> None:
    """Raise SourceUnavailableError unless the hub, or the proxy before it, accepts a connection.

    An HTTP client applies its connect timeout to each address of a host in turn, and none to the
    name look-up; here the whole attempt has CONNECT_TIMEOUT seconds.
    """
    url = urlsplit(endpoint())
    host = url.hostname or ""
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        url = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    address = (url.hostname or "", url.port or (80 if url.scheme == "http" else 443))
    failures: list[OSError] = [TimeoutError("no answer")]

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=CONNECT_TIMEOUT).close()
            failures.clear()
        except OSError as error:
            failures.append(error)

    attempt = threading.Thread(target=connect, daemon=True, name="pyqwen-hub-probe")
    attempt.start()
    attempt.join(CONNECT_TIMEOUT)
    if failures:
        reason = failures[-1].strerror or str(failures[-1])
        raise SourceUnavailableError(f"{address[0]} cannot be reached ({reason})") from failures[-1]


def look_up(repo: str) -> Repository:
    """Ask the hub, once and without retries, what a repository contains.

    Raises SourceUnavailableError if there is no answer or a refusal.
    """
    from huggingface_hub import HfApi

    require_reachable()
    api = HfApi(endpoint=endpoint(), library_name="pyqwen")
    try:
        with _translated_errors(repo):
            info = api.model_info(repo, files_metadata=True, timeout=READ_TIMEOUT)
    except SourceUnavailableError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # the page of a portal
        raise SourceUnavailableError(f"{_host()} does not answer as a hub does") from error
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit):
        raise SourceUnavailableError(f"{_host()} does not answer as a hub does: no commit")
    files = {}
    for sibling in info.siblings or []:
        blob = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or ""
        # The name of the blob becomes a file name: nothing but a checksum may pass.
        if _SHA256.fullmatch(blob) or _COMMIT.fullmatch(blob):
            size = sibling.lfs.size if sibling.lfs else sibling.size or 0
            files[sibling.rfilename] = RemoteFile(sibling.rfilename, size, blob)
    return Repository(repo, commit, files, _stated_license(repo, info))


def fetch(repository: Repository, paths: tuple[str, ...], progress: Progress | None) -> list[Path]:
    """Download files of a repository, continuing where an earlier attempt stopped.

    Returns their paths in the cache, in order. Raises ModelFileError if the download breaks off
    (what has arrived is kept) or the content does not match its checksum (then it is deleted).
    """
    from filelock import FileLock

    files = [repository.files[path] for path in paths]
    folder = hub_cache_dir() / f"models--{repository.name.replace('/', '--')}"
    blobs = make_dir(folder / "blobs")
    locks = make_dir(hub_cache_dir() / ".locks" / folder.name)
    missing = [file for file in files if not (blobs / file.blob).exists()]
    present = sum(_size_of(_partial(blobs, file)) for file in missing)
    require_space(blobs, sum(file.size for file in missing) - present)

    total = sum(file.size for file in files)
    done = 0
    for file in files:

        def report(count: int, what: str, before: int = done) -> None:
            if progress is not None:
                progress(before + count, total, what)

        # The same lock as huggingface_hub takes: other programs wait for us, and we for them.
        with FileLock(locks / f"{file.blob}.lock"):
            if not (blobs / file.blob).exists():
                _download_blob(repository, file, blobs, report)
        done += file.size
    return [_file_in_cache(repository, file, blobs / file.blob) for file in files]


def _partial(blobs: Path, file: RemoteFile) -> Path:
    return blobs / f"{file.blob}.incomplete"


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _download_blob(
    repository: Repository, file: RemoteFile, blobs: Path, report: Callable[[int, str], None]
) -> None:
    partial = _partial(blobs, file)
    while True:
        before = _size_of(partial)
        if before > file.size:
            partial.unlink()
        try:
            _append_rest(repository, file, partial, report)
            break
        except SourceUnavailableError as error:
            # A connection that breaks is taken up again as long as each attempt gets further.
            if not before < _size_of(partial) <= file.size:
                raise ModelFileError(
                    f"{file.path}: the download broke off after {_size_of(partial):,} of "
                    f"{file.size:,} bytes ({error}); run the same command again to continue it"
                ) from error
    _verify(partial, file, report)
    partial.replace(blobs / file.blob)


def _append_rest(
    repository: Repository, file: RemoteFile, partial: Path, report: Callable[[int, str], None]
) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    url = hf_hub_url(repository.name, file.path, revision=repository.commit, endpoint=endpoint())
    headers = build_hf_headers(library_name="pyqwen")
    headers["Accept-Encoding"] = "identity"  # a compressed answer could not be continued
    with (
        _ReportingFile(partial, lambda count: report(count, file.path)) as output,
        _translated_errors(repository.name),
        _no_progress_bar(),
    ):
        http_get(
            url,
            output,
            resume_size=output.tell(),
            headers=headers,
            expected_size=file.size,
            displayed_filename=file.path,
        )


def _verify(partial: Path, file: RemoteFile, report: Callable[[int, str], None]) -> None:
    digest = file.sha256
    if digest is not None:
        digest = sha256_of(partial, lambda count: report(count, f"checking {file.path}"))
    if _size_of(partial) != file.size or digest != file.sha256:
        partial.unlink()
        raise ModelFileError(
            f"{file.path}: what {_host()} sent does not match the checksum it states, and was "
            "deleted; run the same command again to download the file anew"
        )


def _file_in_cache(repository: Repository, file: RemoteFile, blob: Path) -> Path:
    """Let huggingface_hub enter the blob, which lies ready, in its snapshot of the repository."""
    from huggingface_hub import hf_hub_download

    with _translated_errors(repository.name), _no_progress_bar():
        path = hf_hub_download(
            repository.name,
            file.path,
            cache_dir=hub_cache_dir(),
            endpoint=endpoint(),
            etag_timeout=READ_TIMEOUT,
            library_name="pyqwen",
        )
    if not Path(path).is_symlink():  # no links on this disk: it was copied
        blob.unlink(missing_ok=True)
    return Path(path)


class _ReportingFile(io.BufferedWriter):
    """A file opened for appending that reports its size after each write."""

    def __init__(self, path: Path, report: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "a"))
        self._report = report

    def write(self, data: Any, /) -> int:
        count = super().write(data)
        self._report(self.tell())
        return count


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep huggingface_hub from drawing bars on the terminal: a library does not print."""
    import huggingface_hub.utils as switches

    if switches.are_progress_bars_disabled():  # type: ignore[attr-defined]
        yield
        return
    switches.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        switches.enable_progress_bars()  # type: ignore[attr-defined]


@contextmanager
def _translated_errors(repo: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub and of its HTTP client into SourceUnavailableError."""
    from huggingface_hub.errors import HfHubHTTPError

    # Its bases are the root of whichever HTTP client this version of huggingface_hub uses.
    roots = cast(tuple[type[Exception], ...], HfHubHTTPError.__bases__)
    client_errors: tuple[type[Exception], ...] = (OSError, *roots)
    try:
        yield
    except client_errors as error:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        raise SourceUnavailableError(_explain(repo, status, error)) from error


def _explain(repo: str, status: int | None, error: BaseException) -> str:
    if status in (401, 403, 404):
        return (
            f"{_host()} refuses access to {repo} (HTTP {status}): it does not exist, or is private "
            "or gated and HF_TOKEN does not hold a token that may read it"
        )
    if status is not None:
        return f"{_host()} answers for {repo} with HTTP {status}"
    return f"{_host()} does not answer for {repo} ({error or type(error).__name__})"


def _host() -> str:
    """The host of the hub for messages, without the name and password that may stand before it."""
    return urlsplit(endpoint()).netloc.rpartition("@")[2] or "HF_ENDPOINT"


def _stated_license(repo: str, info: ModelInfo) -> License | None:
    card: Any = info.card_data or {}
    name = card.get("license_name") or card.get("license")
    if not (isinstance(name, str) and name.isprintable()):  # it will be shown on terminals
        return None
    url = card.get("license_link")
    if not (isinstance(url, str) and url.startswith("https://") and url.isprintable()):
        url = f"https://huggingface.co/{repo}"
    return KNOWN_LICENSES.get(name, License(name, name, url))
