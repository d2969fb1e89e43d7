"""`--ray`: the pictures of a folder job upscaled by the workers of a Ray cluster.

The workers read and write the files and have a model each; the driver, which is the command itself, alone decides what
is left to do and notes what is finished. Ray Data hands out the pictures one by one, and again when a worker dies.
"""

import argparse
import io
import logging
import os
import pickle
import secrets
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import ArmSRError, BackendError, UsageError
from ..manifest import file_digest
from .files import STREAM, Files
from .picture import Told, read, upscale_picture, write_picture
from .upscalers import Upscalers

if TYPE_CHECKING:
    from ..imaging.sizes import Size
    from .job import Job

LOCAL = "local"
"""As an address: a cluster of this machine alone, for this job."""
RETRIES = 1
"""How often a picture is tried again whose worker died, beside others and then alone."""


def add_scale_out(parser: argparse.ArgumentParser) -> None:
    """`--ray`, `--workers`."""
    add = parser.add_argument_group("several processes or machines").add_argument
    add("--ray", nargs="?", const=LOCAL, metavar="ADDRESS", help="spread a folder over a Ray cluster (default: here)")
    add("--workers", type=int, metavar="N", help="processes with a model each (default: one a processor)")


def check_scale_out(args: argparse.Namespace) -> None:
    """UsageError when the job cannot be spread over workers."""
    from ..scheduler import Budget

    if args.ray is None:
        if args.workers is not None:
            raise UsageError("--workers is for --ray; without it pictures are upscaled in one process")
        return
    if args.workers is not None and args.workers < 1:
        raise UsageError(f"--workers must be at least 1, not {args.workers}")
    if args.deadline or args.budget_total or Budget.parse(args.budget or "max").kind == "ms":
        raise UsageError("--ray has no milliseconds, which differ from worker to worker; give a budget in % or GMAC")
    if args.bmodels:
        raise UsageError("--ray is for processors; a TPU is used by the machine that has it, without --ray")
    if args.dry_run:
        raise UsageError("--dry-run computes nothing that --ray could spread; leave one out")
    if STREAM in args.inputs:
        raise UsageError("--ray has no stdin; name files and folders that all workers can read")
    if not args.resume and not any(os.path.isdir(path) for path in args.inputs):
        raise UsageError("--ray is for folders of pictures, and none was given")


def scaled_out(args: argparse.Namespace, how: dict[str, Any], upscalers: Upscalers,
               job: "Job") -> Generator[tuple[Files, Callable[[], Told]], None, None]:  # fmt: skip
    """The pictures of the job as they are finished; call what comes with each for what it gives or raises.

    A picture whose output has its name is in the manifest when it is told of. Raises BackendError when the cluster
    cannot be reached or fails as a whole, UsageError when it has fewer processors than there are to be workers.
    """
    import ray

    files = list(job.sizes)
    left = set(range(len(files)))
    if not files:
        return
    with _cluster(args.ray):
        workers, threads = _shares(args.workers)
        worker = (_options_for_workers(args, upscalers), how, upscalers.size, files, threads, Path.cwd())
        try:
            # At each worker one picture waits, or it would be idle between two; what died with the one before it is
            # then done again without.
            for row in (row for ahead in (2, 1) for row in _spread(sorted(left), worker, workers, threads, ahead)):
                file, finished = files[row["number"]], pickle.loads(row["finished"])
                left.remove(row["number"])
                if not isinstance(finished, Exception):
                    finished, digests = finished
                    job.note(file, *digests)
                height, width = job.sizes[file]
                job.bar.update(height * width)
                yield file, partial(_given, finished)
        except ray.exceptions.RayError as error:
            raise BackendError(f"Ray stopped ({_reason(error)}); --resume goes on with what is left") from error
    for number in sorted(left):
        reason = "its worker died, every time; there may be too little memory for so many --workers"
        yield files[number], partial(_given, BackendError(f"{files[number].source}: {reason}"))


def _spread(numbers: Sequence[int], worker: tuple[Any, ...], workers: int, threads: int,
            in_flight: int) -> Iterator[dict[str, Any]]:  # fmt: skip
    """What up to so many workers, made with the arguments `worker`, give for pictures, but for those that they died of.

    Each has at most `in_flight` of them, of which it works on one.
    """
    import ray

    if not numbers:
        return
    pool = ray.data.ActorPoolStrategy(size=min(workers, len(numbers)), max_tasks_in_flight_per_actor=in_flight)
    pictures = ray.data.from_items([{"number": number} for number in numbers], override_num_blocks=len(numbers))
    with warnings.catch_warnings():
        # Of passing `max_task_retries`: nothing else in Ray Data keeps it from trying for ever.
        warnings.simplefilter("ignore", DeprecationWarning)
        spread = pictures.map(
            Worker, fn_constructor_args=worker, compute=pool, num_cpus=threads, max_task_retries=RETRIES
        )
    yield from spread.iter_rows()


class Worker:
    """Upscales pictures in a process of its own, with a model that is opened once.

    Args:
        args: of the command, with the engine that the driver has.
        how: the choice that `Upscaler.upscale` takes.
        size: what is asked of the results.
        files: the pictures of the job.
        threads: how many it uses.
        folder: where the command was called, to which the names of files are relative.
    """

    def __init__(self, args: argparse.Namespace, how: dict[str, Any], size: "Size", files: Sequence[Files],
                 threads: int, folder: Path) -> None:  # fmt: skip
        self._args, self._how, self._size, self._files = args, how, size, files
        self._threads, self._folder = threads, folder

    @cached_property
    def _upscalers(self) -> Upscalers:
        # Opened for the first picture, so that what is missing on a machine is an error of its pictures, not of all.
        import cv2

        from ..backends.threads import MOST

        try:
            os.chdir(self._folder)
        except OSError as error:
            reason = f"{os.uname().nodename} has no folder {self._folder}; all workers need the same files"
            raise BackendError(reason) from error
        os.environ[MOST] = str(self._threads)
        cv2.setNumThreads(self._threads)
        try:
            return Upscalers(self._args, self._size, None)
        except ArmSRError as error:
            raise BackendError(f"{os.uname().nodename}: {error}") from error

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Upscale the picture of a number; what came of it, pickled: plan and report with the digests of both files, or
        the exception."""
        finished: Any
        try:
            finished = self._upscaled(self._files[row["number"]])
        except Exception as error:  # the driver raises it
            error.add_note(traceback.format_exc())
            finished = error
        return {"number": row["number"], "finished": pickle.dumps(finished)}

    def _upscaled(self, file: Files) -> tuple[Told, tuple[str, str]]:
        upscalers = self._upscalers  # first, because only then names of files mean what they do for the driver
        picture = read(file, with_digest=True)
        upscaled = upscale_picture(self._args, upscalers, self._how, file, picture)
        told = write_picture(self._args, file, picture, upscaled)
        return told, (picture.digest, file_digest(file.target))


class _ForThisThread(io.TextIOBase):
    """A stream on which no other thread writes: one of Ray's tells of workers that died on stdout, where the JSON goes,
    whatever its logging is set to."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return self._stream.write(text) if threading.get_ident() == self._thread else len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()


@contextmanager
def _no_stderr() -> Generator[None, None, None]:
    """Nothing appears on stderr, not even of other languages."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _cluster(address: str) -> Generator[None, None, None]:
    """A connection to the cluster at `address`; nothing is told but warnings, and no usage to Ray's makers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # it warns that this will be the default
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    from ..backends.threads import allowed_threads

    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {"num_cpus": allowed_threads(), "include_dashboard": False}
        # Without one Ray leaves a token in the home folder, and every cluster started later on this machine wants it.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        if port.isdecimal():  # Ray tries for ever
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        with _no_stderr():  # on which Ray says that its log level was set
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = f"no Ray cluster there ({_reason(error)})"
        if "AuthenticationError" in repr(error) + reason:  # some are the cause of another error
            hint = "RAY_AUTH_MODE=token, and the token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
            reason = f"the cluster and this machine need the same token ({hint})"
        raise BackendError(f"--ray {address}: {reason}") from error
    with redirect_stdout(_ForThisThread(sys.stdout)):
        try:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            context.max_errored_blocks = -1  # pictures whose workers die do not stop the others
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
            yield
        finally:
            with redirect_stdout(io.StringIO()):  # in this thread it repeats what others were told more than once
                ray.shutdown()


def _shares(workers: int | None) -> tuple[int, int]:
    """Workers on the cluster, and the threads of each: as many as let all of them run at once."""
    import ray

    processors = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    wanted = workers or max(1, sum(processors))
    for threads in range(max(processors), 0, -1):
        if sum(count // threads for count in processors) >= wanted:
            return wanted, threads
    raise UsageError(f"--workers must be from 1 to {sum(processors)}, the processors of the cluster, not {wanted}")


def _options_for_workers(args: argparse.Namespace, upscalers: Upscalers) -> argparse.Namespace:
    """The command's, with the engine that was found to be the best here, so that all results come from the same."""
    engines = upscalers.engines
    if len(engines) > 1:
        named = " and ".join(sorted(name for name, _ in engines))
        raise UsageError(f"the models that the sizes need are the fastest on {named} here; name one with --backend")
    ((backend, precision),) = engines
    return argparse.Namespace(**vars(args) | {"backend": backend, "precision": precision, "quiet": True})


def _given(finished: Any) -> Any:
    if isinstance(finished, Exception):
        raise finished
    return finished


def _reason(error: BaseException) -> str:
    """The first sentence of the last line of what Ray says, of the cause where it tells one."""
    error = error.__cause__ or error
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip().partition(". ")[0].rstrip(".")
