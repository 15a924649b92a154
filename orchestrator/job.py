"""A study as a Ray job: sent to a running cluster, where its driver runs, and followed from here.

The driver outlives the command that sent it. What the environment of the nodes lacks travels
along: the study file or its whole folder, and wheels.
"""

import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ray._private.runtime_env.packaging import get_uri_for_directory
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from cluster.credentials import SETTLED_VARIABLES, looks_like_credential
from orchestrator.errors import LaunchError, RequestError
from orchestrator.running.tune import WORKER_ENVIRONMENT
from orchestrator.storage.filesystem import is_uri, resolve_location
from orchestrator.study_file.study import Study
from orchestrator.wheels import unpacked

__all__ = ["JobEnd", "JobRequest", "StudyJob", "submit_study"]

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
"""How long the cluster's dashboard may take to accept a connection."""
LOOK_SECONDS = 2.0
"""How often a job is looked at; less often where the log is long, which every look reads whole."""
ANSWER_SECONDS = 60.0
"""How long the dashboard may take to answer."""
STOP_SECONDS = "60"
"""How long `ray job stop` waits for the driver to end in order: Ray's own 3 s are too few."""
RECONNECT_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Waits between attempts to reach a dashboard that stopped answering."""
OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that Ray's client would prefer to the address that it is given."""
SETTLED = {*SETTLED_VARIABLES, *WORKER_ENVIRONMENT}
"""Variables that a job's driver or its nodes set themselves."""
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What is to run on the cluster, and with what."""

    study: Path
    """The study file."""
    store: str
    """Where results go, as the cluster's nodes reach it: a URI, or an absolute path."""
    working_dir: Path | None = None
    """Folder that travels, with the study file in it; None: the study file alone."""
    wheels: Sequence[Path] = ()
    """Wheels of pure Python that the nodes lack, such as a plug-in's; without what they require."""
    variables: Mapping[str, str]
    """Environment of driver and workers; the dashboard shows it, so no secrets."""
    options: Sequence[str] = ()
    """Further options of `scaling-study run`."""


@dataclass(frozen=True, kw_only=True)
class JobEnd:
    """How a job ended."""

    status: JobStatus
    """What Ray says."""
    exit_code: int | None
    """Of `scaling-study run`; None where that did not end by itself."""
    message: str
    """Ray's own words on it."""


class StudyJob:
    """A job that the cluster knows."""

    def __init__(self, client: JobSubmissionClient, submission_id: str, is_new: bool) -> None:
        self._client = client
        self.submission_id = submission_id
        self.is_new = is_new
        """Whether it was sent now, and not found there."""

    def follow(self, show: Callable[[str], None]) -> JobEnd:
        """Pass the job's log to `show`, from its beginning, until the job has ended.

        Raises `LaunchError` where the cluster no longer answers; the job may well go on.
        """
        shown = 0
        waits = iter(RECONNECT_SECONDS)
        while True:
            try:
                details = self._client.get_job_info(self.submission_id)
                log = self._log(ended=details.status.is_terminal())
            except AuthenticationError as error:
                raise _silent(self.submission_id, error) from error
            except (OSError, RuntimeError, RayError) as error:
                wait = next(waits, None)
                if wait is None:
                    raise _silent(self.submission_id, error) from error
                time.sleep(wait)
                continue
            waits = iter(RECONNECT_SECONDS)
            if len(log) > shown:
                show(log[shown:])
                shown = len(log)
            if details.status.is_terminal():
                return JobEnd(
                    status=details.status,
                    exit_code=details.driver_exit_code,
                    message=details.message or "",
                )
            time.sleep(LOOK_SECONDS * (1 + len(log) // 2**20))

    def _log(self, *, ended: bool) -> str:
        """Return the job's log; where the job has ended, nothing if nobody has it any more."""
        try:
            return self._client.get_job_logs(self.submission_id)
        except (OSError, RuntimeError):
            if not ended:
                raise
            logger.warning("The log of the job %s is gone.", self.submission_id)
            return ""


def submit_study(request: JobRequest, study: Study, address: str) -> StudyJob:
    """Send `study`, read from `request.study`, to the cluster at `address`, and return its job.

    `address`: of the cluster's dashboard, http://HOST:PORT. Where the same request is waiting or
    running there already, that job is returned and nothing is sent. Raises `RequestError` before
    anything is sent, `LaunchError` where the cluster cannot be reached or refuses.
    """
    _refuse_address(address)
    _refuse(request)
    with tempfile.TemporaryDirectory() as scratch:
        modules = unpacked(request.wheels, Path(scratch, "packages"))
        folder = request.working_dir or Path(scratch, "study")
        if request.working_dir is None:
            folder.mkdir()
            shutil.copy(request.study, folder)
        contents = get_uri_for_directory(str(folder), include_gitignore=True)
        base = f"{study.name}-{_digest(request, study, contents)}"
        with _explained(address):
            client = _client(address)
            tries = _tries(client, base)
            if running := _running(tries):
                return StudyJob(client, running, is_new=False)
            submission_id = f"{base}-{1 + max(tries, default=0)}"
            try:
                _submit(
                    client,
                    entrypoint=_entrypoint(request),
                    submission_id=submission_id,
                    runtime_env=_environment(request, folder, modules),
                    metadata={"study": study.name, "store": request.store},
                )
            except RuntimeError:
                # Somebody else has sent the same meanwhile, unless it is something else.
                if running := _running(_tries(client, base)):
                    return StudyJob(client, running, is_new=False)
                raise
    return StudyJob(client, submission_id, is_new=True)


def _environment(request: JobRequest, folder: Path, modules: Sequence[Path]) -> dict[str, Any]:
    """Return Ray's runtime environment of the job."""
    environment: dict[str, Any] = {
        "working_dir": str(folder),
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS, **request.variables},
    }
    if modules:  # of an empty list, Ray makes a module without a name
        environment["py_modules"] = [str(module) for module in modules]
    return environment


def _submit(client: JobSubmissionClient, **job: Any) -> None:
    """Submit a job, also to a cluster that has only just started."""
    for wait in RECONNECT_SECONDS:
        try:
            client.submit_job(**job)
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            time.sleep(wait)
        else:
            return
    client.submit_job(**job)


def _refuse_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        str(parts.hostname).encode("idna")  # as the socket will
    except ValueError:
        sound = False
    if not sound or "@" in parts.netloc or parts.query or parts.fragment:
        raise RequestError(
            f"--address is {address!r}; allowed: http://HOST:PORT of the cluster's dashboard, "
            "whose port is 8265 if nobody chose another. 'ray dashboard CLUSTER.yaml', 'kubectl "
            "port-forward' or 'ssh -L' brings it to http://127.0.0.1:8265."
        )


def _refuse(request: JobRequest) -> None:
    resolve_location(request.store)  # refuses URIs that cannot be meant
    if not is_uri(request.store) and not Path(request.store).is_absolute():
        raise RequestError(
            f"--store is {request.store!r}, which the cluster would look for in the job's own "
            "folder; allowed: s3://…, gs://…, or an absolute path that all its nodes share."
        )
    folder = request.working_dir
    if folder is not None and not folder.is_dir():
        raise RequestError(f"--working-dir {folder} is no folder. Name the one to send along.")
    if folder is not None and not request.study.resolve().is_relative_to(folder.resolve()):
        raise RequestError(
            f"The study {request.study} is not inside --working-dir {folder}, and would not be "
            "sent. Move it there, or name a folder that holds it."
        )
    for name in request.variables:
        if not VARIABLE_NAME.fullmatch(name):
            raise RequestError(f"--env {name}=…: {name!r} cannot be the name of a variable.")
        if name in SETTLED:
            raise RequestError(
                f"--env {name}=…: {name} is set by the run or by the cluster; allowed: others than "
                f"{', '.join(sorted(SETTLED))}. Leave it out."
            )
        if looks_like_credential(name):
            raise RequestError(
                f"--env {name}=…: {name} looks like a credential, and the dashboard shows the "
                "variables of a job. Give the nodes a role, or their own environment."
            )


def _entrypoint(request: JobRequest) -> str:
    """Return the command of the job, for a shell in its working folder there."""
    if request.working_dir is None:
        study = request.study.name
    else:
        study = str(request.study.resolve().relative_to(request.working_dir.resolve()))
    words = ["run", study, "--store", request.store, "--address", "auto", *request.options]
    return f"$(command -v python || command -v python3) -m orchestrator {shlex.join(words)}"


def _digest(request: JobRequest, study: Study, contents: str) -> str:
    """Return what tells this request from others of the study. `contents`: what travels."""
    asked = [study.text, request.store, sorted(request.options), sorted(request.variables.items())]
    wheels = sorted(hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in request.wheels)
    return hashlib.sha256(json.dumps([*asked, wheels, contents]).encode()).hexdigest()[:8]


def _tries(client: JobSubmissionClient, base: str) -> dict[int, JobDetails]:
    """Return the jobs that tried a request, by their number from 1."""
    tries = {}
    for job in client.list_jobs():
        name, _, number = (job.submission_id or "").rpartition("-")
        if name == base and number.isdigit():
            tries[int(number)] = job
    return tries


def _running(tries: Mapping[int, JobDetails]) -> str | None:
    """Return the submission id of one that has not ended, or None."""
    running = (job.submission_id for job in tries.values() if not job.status.is_terminal())
    return next(running, None)


class _Client(JobSubmissionClient):
    """Ray's client, which would wait for an answer for ever."""

    def _do_request(self, *arguments: Any, **options: Any) -> Any:
        return super()._do_request(*arguments, **{"timeout": ANSWER_SECONDS, **options})


def _silent(submission_id: str, error: Exception) -> LaunchError:
    return LaunchError(
        f"The cluster no longer answers about the job {submission_id}: {error}\nThe job may go on; "
        "the same command follows it again, and the store has what it finished."
    )


def _client(address: str) -> JobSubmissionClient:
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((str(parts.hostname), port), timeout=CONNECT_SECONDS).close()
    with _without(OVERRIDES):
        return _Client(address)


@contextmanager
def _explained(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, RayError) as error:
        raise LaunchError(
            f"The cluster at {address} did not take the job: {error}\nCheck the address of its "
            "dashboard, that the cluster runs, and that this machine has its token "
            "(RAY_AUTH_MODE=token, and ~/.ray/auth_token or RAY_AUTH_TOKEN_PATH)."
        ) from error


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    taken = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)
