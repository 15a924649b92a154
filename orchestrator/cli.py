"""The command line. The only module that prints.

Heavy imports stand inside the commands: `scaling-study --help` answers without ray, torch or
pandas. Results go to standard output; progress and logs to standard error.
"""

import atexit
import gc
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console

from orchestrator.errors import LaunchError, RequestError, StoreError, StudyError
from orchestrator.logs import LogFormat, configure_logs, tells_json
from orchestrator.running.interrupts import kept_interrupts
from orchestrator.shadowing import refuse_shadowed_packages

if TYPE_CHECKING:
    from orchestrator.job import JobEnd
    from orchestrator.storage.store import Store
    from orchestrator.study_file.study import Study

__all__ = ["app", "main"]

app = typer.Typer(
    name="scaling-study",
    help="Run scaling studies on Ray, keep every result in Parquet, and test scaling laws.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
err = Console(stderr=True)
logger = logging.getLogger(__name__)


class ExitCode(IntEnum):
    """What the process says at its end."""

    DONE = 0
    CELLS_FAILED = 1
    WRONG_REQUEST = 2
    STORE_OR_CLUSTER_FAILED = 3
    INTERRUPTED = 130


LogOption = Annotated[
    LogFormat | None,
    typer.Option(
        "--log",
        help="Log every event to standard error, for people or for programs; by default as "
        "text where that is no terminal, and warnings only where it is.",
    ),
]


def _path(text: str) -> Path:
    """Return a path; a leading ~ is the home folder, which shells keep behind `--option=`."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise typer.BadParameter(
            f"{text!r} begins with a home folder that is not known. Allowed: ~, ~USER of a user of "
            "this machine, or a path without them."
        ) from error


StudyArgument = Annotated[
    Path, typer.Argument(metavar="STUDY", help="The study file (YAML).", parser=_path)
]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="Folder or URI of the store.")]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Folder or URI (s3://…, gs://…); by default results/NAME."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AutoscalingOption = Annotated[
    bool,
    typer.Option(
        "--autoscaling", help="Nodes may join: what none holds yet waits, with a warning."
    ),
]
RetryOption = Annotated[bool, typer.Option("--retry-failed", help="Try failed cells again.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Allow more than 100,000 grid points.")]
MixOption = Annotated[
    bool,
    typer.Option("--mix-sources", help="Accept rows of another source of the same version."),
]


@app.command()
def plan(
    study: StudyArgument,
    store: StoreOption = None,
    retry_failed: RetryOption = False,
    yes: YesOption = False,
    mix_sources: MixOption = False,
    power: Annotated[
        bool,
        typer.Option("--power", help="Simulate studies like this one: what would they decide?"),
    ] = False,
    noise: Annotated[
        float | None,
        typer.Option("--noise", help="With --power: sd of a run's error; by default 0.005."),
    ] = None,
    depth: Annotated[
        float | None,
        typer.Option(
            "--depth",
            help="With --power: error at far too large a batch less that at the best; "
            "by default 0.02.",
        ),
    ] = None,
    pilot: Annotated[
        str | None,
        typer.Option("--pilot", help="With --power: store of a pilot, instead of assumptions."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would train, and what the study can decide. Writes nothing to the store."""
    _refuse_idle_assumptions(power, noise, depth, pilot)
    with _reporting() as show:
        from orchestrator.forecast import Power, study_limits, study_power
        from orchestrator.planning import plan_study
        from orchestrator.rendering import plan_document, plan_tables
        from orchestrator.storage.store import Store

        loaded = _load(study)
        opened = Store(store or _default_store(loaded))
        planned = plan_study(
            loaded, opened, retry_failed=retry_failed, confirmed=yes, mix_sources=mix_sources
        )
        if power:
            forecast = study_power(planned, Power(noise=noise, depth=depth, pilot=pilot))
        else:
            forecast = study_limits(planned)
        show(
            as_json,
            plan_document(planned, forecast),
            lambda: plan_tables(planned, forecast, simulated=power),
        )


@app.command()
def run(
    study: StudyArgument,
    store: StoreOption = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="A running Ray cluster: 'auto' or HOST:PORT."),
    ] = None,
    inline: Annotated[
        bool, typer.Option("--inline", help="Train in this process, without Ray; for debugging.")
    ] = False,
    autoscaling: AutoscalingOption = False,
    retry_failed: RetryOption = False,
    yes: YesOption = False,
    mix_sources: MixOption = False,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the cells that the store lacks."""
    configure_logs(log or LogFormat.TEXT, every_event=log is not None or not err.is_terminal)
    if inline and address:
        _refuse("--inline trains in this process and --address on a cluster; pass one of them.")
    if autoscaling and not address:
        _refuse("--autoscaling is of a cluster that may grow; name it with --address.")
    failed = False
    with _reporting() as show:
        from orchestrator.progress import ProgressDisplay
        from orchestrator.rendering import run_document, run_lines
        from orchestrator.running.run import run_study

        loaded = _load(study)
        location = store or _default_store(loaded)
        with ProgressDisplay(err, shown=err.is_terminal and not tells_json()) as display:
            report = run_study(
                loaded,
                location,
                address=address,
                inline=inline,
                autoscaling=autoscaling,
                retry_failed=retry_failed,
                confirmed=yes,
                mix_sources=mix_sources,
                progress=display.update,
            )
        show(as_json, run_document(report), lambda: run_lines(report, _in_full(location)))
        failed = not report.all_done
    if failed:
        raise typer.Exit(ExitCode.CELLS_FAILED)


@app.command()
def submit(
    study: StudyArgument,
    store: Annotated[
        str, typer.Option("--store", help="URI or absolute path that all nodes reach.")
    ],
    address: Annotated[
        str, typer.Option("--address", help="The cluster's dashboard, http://HOST:PORT.")
    ] = "http://127.0.0.1:8265",
    working_dir: Annotated[
        Path | None,
        typer.Option(
            "--working-dir",
            metavar="FOLDER",
            parser=_path,
            help="Folder to send along; the study is in it.",
        ),
    ] = None,
    wheel: Annotated[
        list[Path] | None,
        typer.Option(
            "--wheel",
            metavar="FILE",
            parser=_path,
            help="Wheel that the nodes lack, pure Python; may be repeated.",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="NAME=VALUE", help="Environment of driver and workers."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Show the job's log until it ends.")
    ] = True,
    autoscaling: AutoscalingOption = False,
    retry_failed: RetryOption = False,
    yes: YesOption = False,
    mix_sources: MixOption = False,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a study on a cluster as a Ray job; the same command again follows it, or goes on."""
    chosen = {
        "--autoscaling": autoscaling,
        "--retry-failed": retry_failed,
        "--yes": yes,
        "--mix-sources": mix_sources,
    }
    code: int = ExitCode.DONE
    with _reporting() as show:
        from orchestrator.job import JobRequest, submit_study
        from orchestrator.rendering import job_document, job_end_lines, job_start_lines

        request = JobRequest(
            study=study,
            store=store,
            working_dir=working_dir,
            wheels=tuple(wheel or ()),
            variables=_variables(env or ()),
            options=(
                *(option for option, given in chosen.items() if given),
                *(("--log", log.value) if log is not None else ()),
            ),
        )
        job = submit_study(request, _load(study), address)
        for line in job_start_lines(job, address):
            err.print(line, markup=False, highlight=False, soft_wrap=True)
        end = None
        if follow:
            end = job.follow(lambda text: err.out(text, end="", highlight=False))
            code = _job_code(end)
        document = job_document(job, end)
        show(as_json, document, lambda: job_end_lines(document))
    if code:
        raise typer.Exit(code)


@app.command()
def status(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Show what is done, failed, diverged and running."""
    with _reporting() as show:
        from orchestrator.rendering import status_document, status_tables

        document = status_document(_existing_store(store))
        show(as_json, document, lambda: status_tables(document))


@app.command()
def analyze(
    store: StoreArgument,
    grid: Annotated[
        list[str] | None, typer.Option("--grid", help="Analyze this grid only; may be repeated.")
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="The study, where the store holds several.")
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            parser=_path,
            help="Where report.html and fits.json go; by default the store's folder.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the laws to the results, print them, and write report.html and fits.json."""
    with _reporting() as show:
        from analysis.reports.report import analyze_store, write_report

        if out_dir is None and "://" in store:
            _refuse(
                f"The store {store} is no local folder; name one for the report with --out DIR."
            )
        analyzed = analyze_store(store, study=study, grids=grid)
        written = write_report(analyzed, out_dir or Path(store).expanduser())
        show(
            as_json,
            analyzed.to_dict(),
            lambda: [analyzed.summary(), *(f"Wrote {path}" for path in written)],
        )


workloads_app = typer.Typer(invoke_without_command=True)
app.add_typer(workloads_app, name="workloads")


@workloads_app.callback()
def workloads(context: typer.Context, as_json: JsonOption = False) -> None:
    """List what can be trained, with its axes and sizes; `new` starts a workload of your own."""
    if context.invoked_subcommand is not None:
        return
    with _reporting() as show:
        from orchestrator.rendering import workload_document, workload_tables

        document = workload_document()
        show(as_json, document, lambda: workload_tables(document))


@workloads_app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What study files will call it.")],
    into: Annotated[
        Path,
        typer.Option(
            "--into",
            metavar="FOLDER",
            parser=_path,
            help="Folder in which the package's folder is made.",
        ),
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Write a small plug-in package: a workload, its conformance test and a study."""
    with _reporting() as show:
        from orchestrator.new_workload import new_workload

        written = [str(path) for path in new_workload(name, into)]
        steps = f"cd {into / name} && pip install --editable . && pytest"
        show(as_json, written, lambda: [*(f"Wrote {path}" for path in written), f"Next: {steps}"])


@app.command()
def data(
    fetch: Annotated[
        str | None,
        typer.Option("--fetch", metavar="NAME", help="Download this data set through a library."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the data sets: where each was found, its licence, and how to get it."""
    with _reporting() as show:
        from orchestrator.data_sets import data_document, data_lines, fetch_data

        if fetch is not None:
            fetch_data(fetch)
        document = data_document(fetch)
        show(as_json, document, lambda: data_lines(document))


cluster_app = typer.Typer(
    no_args_is_help=True, help="Write the files that start a cluster; check one that runs."
)
app.add_typer(cluster_app, name="cluster")


@cluster_app.command("render")
def render(
    backend: Annotated[str, typer.Argument(help="What starts it: ray, kuberay or slurm.")],
    description: Annotated[
        Path,
        typer.Argument(metavar="DESCRIPTION", help="The cluster description (YAML).", parser=_path),
    ],
    study: Annotated[
        Path | None,
        typer.Option(
            "--study",
            metavar="STUDY",
            parser=_path,
            help="The study to run there; Slurm needs one.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            parser=_path,
            help="Where it goes; by default standard output.",
        ),
    ] = None,
    yes: YesOption = False,
) -> None:
    """Write launcher YAML, KubeRay manifests or a Slurm script for a cluster. Starts nothing."""
    with _reporting() as show:
        from cluster.renderers import Backend
        from orchestrator.cluster_file import render_cluster, write_rendered

        if backend not in set(Backend):
            _refuse(f"The backend is {backend!r}; allowed: {', '.join(Backend)}.")
        text = render_cluster(Backend(backend), description, study, confirmed=yes)
        if out is None:
            show.text(text)
        else:
            write_rendered(text, out)
            show.text(f"Wrote {out}\n")


@cluster_app.command("check")
def check(
    store: Annotated[
        str, typer.Option("--store", help="Where results are to go: checked from every node.")
    ],
    address: Annotated[
        str, typer.Option("--address", help="The running Ray cluster: 'auto' or HOST:PORT.")
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Ask every node of a running cluster for versions, devices, clock, token and the store."""
    with _reporting() as show:
        from cluster.health import faults
        from orchestrator.cluster_check import check_cluster
        from orchestrator.rendering import health_document, health_lines
        from orchestrator.storage.store import Store

        report = check_cluster(address, Store(store))
        found = faults(report)
        show(as_json, health_document(report, found), lambda: health_lines(report, found))
    raise typer.Exit(ExitCode.STORE_OR_CLUSTER_FAILED if found else ExitCode.DONE)


@app.command()
def compact(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Merge small Parquet parts; loses nothing."""
    with _reporting() as show:
        from dataclasses import asdict

        report = asdict(_existing_store(store).compact())
        show(as_json, report, lambda: [f"{name}: {value}" for name, value in report.items()])


def main() -> None:
    """Run the command line; the process ends with an exit code of the table above."""
    configure_logs(LogFormat.TEXT, every_event=False)
    signal.signal(signal.SIGTERM, _interrupt)
    atexit.register(gc.freeze)  # else Python's last collections walk through torch and ray: 1 s
    app()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _load(path: Path) -> "Study":
    from orchestrator.study_file.study import Study

    return Study.from_file(path)


def _existing_store(location: str) -> "Store":
    from orchestrator.storage.store import Store

    store = Store(location)
    if not store.exists():
        raise RequestError(
            f"There is no store at {store.location}. Correct the path, or train one with "
            "'scaling-study run STUDY --store STORE'."
        )
    return store


def _in_full(location: str) -> str:
    """Return a location that the shell takes as it stands, without a ~."""
    return location if "://" in location else str(Path(location).expanduser())


def _default_store(study: "Study") -> str:
    return str(Path("results") / study.name)


def _variables(stated: Iterable[str]) -> dict[str, str]:
    variables = {}
    for each in stated:
        name, equals, value = each.partition("=")
        if not equals:
            _refuse(f"--env is {each!r}; allowed: NAME=VALUE.")
        variables[name] = value
    return variables


def _job_code(end: "JobEnd") -> int:
    """Return the exit code of the study's own process, where it has one."""
    if end.status == "STOPPED":
        return ExitCode.INTERRUPTED
    if end.status == "SUCCEEDED":
        return ExitCode.DONE
    known = end.exit_code in set(ExitCode) and end.exit_code
    return known or ExitCode.STORE_OR_CLUSTER_FAILED


class _Results:
    """Standard output, to which nothing but the answer goes."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream, soft_wrap=True)

    def __call__(self, as_json: bool, document: Any, lines: Callable[[], Iterable[Any]]) -> None:
        """Show a command's answer: its document as JSON, or its lines and tables."""
        if as_json:
            self.text(json.dumps(document, indent=2, allow_nan=False) + "\n")
            return
        for line in lines():
            self._console.print(line, markup=False)

    def text(self, text: str) -> None:
        """Show text as it is, to be kept in a file."""
        self._console.file.write(text)


def _refuse(message: str) -> None:
    err.print(message, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(ExitCode.WRONG_REQUEST)


def _refuse_idle_assumptions(
    power: bool, noise: float | None, depth: float | None, pilot: str | None
) -> None:
    """Refuse assumptions of a simulation that is not asked for, or that contradict each other."""
    given = {"--noise": noise, "--depth": depth, "--pilot": pilot}
    names = " and ".join(name for name, value in given.items() if value is not None)
    if names and not power:
        _refuse(f"{names}: assumptions of a simulation; add --power to run it, or leave them out.")
    if pilot is not None and names != "--pilot":
        _refuse(f"{names} exclude each other: a pilot has its own noise and depth.")
    for name, value in (("--noise", noise), ("--depth", depth)):
        if value is not None and not 0 < value < float("inf"):
            _refuse(f"{name} is {value:g}; allowed: above 0, in the unit of the error (0.005).")


@contextmanager
def _reporting() -> Iterator[_Results]:
    """Turn the errors that we raise on purpose into one message and an exit code.

    Whatever else prints meanwhile (Ray does, and a workload may) goes to standard error.
    """
    results = _Results(sys.stdout)
    try:
        with redirect_stdout(sys.stderr), kept_interrupts():
            refuse_shadowed_packages()
            yield results
    except KeyboardInterrupt:
        _say("Interrupted. What was durable is kept; the same command goes on from there.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        _say(str(error), style="red")
        raise typer.Exit(code) from None


def _say(message: str, style: str | None = None) -> None:
    """Tell why the command ends, as standard error is told everything else."""
    if tells_json():
        logger.error(message)
    else:
        err.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def _exit_code(error: Exception) -> ExitCode | None:
    """Return the exit code of an error that was raised on purpose; None for any other."""
    if isinstance(error, StoreError | LaunchError):
        return ExitCode.STORE_OR_CLUSTER_FAILED
    if isinstance(error, StudyError):
        return ExitCode.WRONG_REQUEST
    from analysis.errors import FitError, UnreadableStoreError
    from workloads.errors import WorkloadError

    if isinstance(error, UnreadableStoreError):
        return ExitCode.STORE_OR_CLUSTER_FAILED
    return ExitCode.WRONG_REQUEST if isinstance(error, FitError | WorkloadError) else None
