"""The processes of a run, as the loop sees them: one, or those that torchrun started.

What a run writes or prints comes from the first one, rank 0. What decides how a run goes on is the
same in all of them: it is added up over them, or rank 0 decides.
"""

import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # as torch.distributed
from torch.distributed.rendezvous import rendezvous

from ecliptic.engine import resolve_device
from ecliptic.errors import ConfigError, EclipticError, ProcessError
from ecliptic.train.losses import Ring
from ecliptic.train.processes.ring import ProcessRing
from ecliptic.train.processes.watch import PAUSE, Watch
from ecliptic.train.processes.wrapping import distribute
from ecliptic.train.settings import ProcessSettings
from ecliptic.train.trainee import Trainee

T = TypeVar("T")
VARIABLES = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"  # that torchrun sets
_numbers = itertools.count()  # of the runs of this process: one store serves them all
LONGER = 1.5  # the time that NCCL gets: it aborts a process without a word, so the watch is first


class World:
    """The processes of a run: this one alone.

    Args:
        device: where the run computes.
    """

    rank = 0
    size = 1
    ring: Ring | None = None

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def distribute(self, trainee: Trainee) -> nn.Module:
        """What encodes a batch of this process, so that gradients are those of all processes."""
        return trainee

    def add(self, values: Sequence[float]) -> list[float]:
        """The sum over the processes of each value."""
        return list(values)

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, in rank 0; nothing in the others."""
        return list(items)

    def first(self, task: Callable[[], T]) -> T:
        """What `task` returns in rank 0, which alone runs it; plain JSON values."""
        return task()

    def proceed(self, doing: str = "") -> None:
        """Note that this process gets on, so that it does not count as lost."""

    def arrive(self, doing: str) -> None:
        """Note that this process is about to wait for the others."""


class SharedWorld(World):
    """The processes that torchrun started.

    Args:
        rank, size: of this process and of all of them.
        settings: how they share the work.
        device: where this process computes.
        store: of the run.
        watch: of this process.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        settings: ProcessSettings,
        device: torch.device,
        store: Store,
        watch: Watch,
    ) -> None:
        super().__init__(device)
        self.rank, self.size, self.settings = rank, size, settings
        self.store, self.watch = store, watch
        self.ring = ProcessRing(arrive=watch.arrive)
        self._tasks = 0

    def distribute(self, trainee: Trainee) -> nn.Module:
        """The trainee in DDP, or with its weights sharded."""
        self.arrive("sharing the weights")
        return distribute(trainee, self.settings.kind, self.device, self.arrive)

    def add(self, values: Sequence[float]) -> list[float]:
        """The sum over the processes of each value."""
        self.arrive("agreeing on a step")
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gather(self, items: Sequence[T]) -> list[T]:
        """The items of all processes, in rank 0; nothing in the others."""
        self.arrive("gathering")
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(list(items), found)
        return [item for some in found or () for item in some]

    def first(self, task: Callable[[], T]) -> T:
        """What `task` returns in rank 0, for which the others wait as long as it gets on."""
        self._tasks += 1
        key = f"first/{self._tasks}"
        if self.rank == 0:
            text = json.dumps(task())
            self.arrive("telling the others")
            self.store.set(key, text)
            self.store.delete_key(f"first/{self._tasks - 2}")  # all have read it
            return json.loads(text)  # type: ignore[no-any-return]
        self.arrive("waiting for rank 0")
        pause = 0.001
        while not self.store.check([key]):
            if self.watch.lost:
                raise ProcessError(self.watch.lost)
            time.sleep(pause)
            pause = min(PAUSE, pause * 1.5)
        return json.loads(self.store.get(key))  # type: ignore[no-any-return]

    def proceed(self, doing: str = "") -> None:
        """Note that this process gets on, so that it does not count as lost."""
        self.watch.proceed(doing)

    def arrive(self, doing: str) -> None:
        """Note that this process is about to wait for the others."""
        self.watch.arrive(doing)


@contextmanager
def join(settings: ProcessSettings, device: str) -> Iterator[World]:
    """The processes of this run, by the variables that torchrun sets; without them, this one.

    Args:
        settings: how they share the work, and when one counts as lost.
        device: of the settings; a process takes the GPU of its local rank.

    Raises:
        ConfigError: variables are missing, or the machine has fewer GPUs than processes.
        ProcessError: another process died or hangs; the message names it.
    """
    size = count_processes()
    if size == 1:
        yield World(resolve_device(device))
        return
    if missing := [name for name in VARIABLES if name not in os.environ]:
        raise ConfigError(
            f"WORLD_SIZE asks for {size} processes, but {', '.join(missing)} is not set; start "
            "them with torchrun, which sets all of it."
        )
    if dist.is_initialized():
        raise ConfigError("training joins its processes by itself; leave the process group first.")
    world = _join(size, settings, _place(device))
    try:
        with _explained(world.watch):
            yield world
            world.arrive("ending")
            dist.barrier()
            world.watch.stop()
            dist.barrier()  # nobody needs the store any more
    finally:
        world.watch.stop()
    time.sleep(PAUSE)  # gloo's thread needs the GIL to drop the last tensors, and is joined now
    dist.destroy_process_group()


def count_processes() -> int:
    """Processes that torchrun started; 1 if it did not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this is the process that writes and reports: rank 0, or the only one."""
    return count_processes() == 1 or os.environ.get("RANK") == "0"


def _place(device: str) -> torch.device:
    """The device of this process."""
    found = resolve_device(device)
    if found.type != "cuda":
        return found
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise ConfigError(
            f"this machine has {count} GPUs, but a process with the local rank {local}; start "
            f"torchrun with --nproc-per-node {count}."
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _join(size: int, settings: ProcessSettings, device: torch.device) -> SharedWorld:
    """Meet the other processes."""
    rank, timeout = int(os.environ["RANK"]), settings.timeout
    wait = timedelta(seconds=timeout)
    number = next(_numbers)
    try:
        store = PrefixStore(f"run/{number}", _open_store(rank, size, wait))
        watch = Watch(_connect(number, wait), rank, size, timeout)
        watch.announce()
    except RuntimeError as error:
        raise ProcessError(
            f"rank {rank} of {size} cannot reach {os.environ['MASTER_ADDR']}, port "
            f"{os.environ['MASTER_PORT']}, where the processes meet, within {timeout:g} s: {error}"
        ) from error
    cuda = device.type == "cuda"
    try:
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=LONGER * wait if cuda else wait,
            device_id=device if cuda else None,
        )
        dist.barrier()
    except RuntimeError as error:
        absent = ", ".join(map(str, watch.missing())) or "none, as far as it can be known"
        raise ProcessError(
            f"not all of the {size} processes have met within {timeout:g} s; missing ranks: "
            f"{absent} ({error})"
        ) from error
    watch.start()
    return SharedWorld(rank, size, settings, device, PrefixStore("tasks", store), watch)


@functools.cache
def _open_store(rank: int, size: int, wait: timedelta) -> Store:
    """Where the processes meet; it stays open, as rank 0 may be its host."""
    store: Store = next(rendezvous("env://", rank, size, timeout=wait))[0]
    return store


def _connect(number: int, wait: timedelta) -> Store:
    """Another connection to it, as the one above may be busy."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=wait)
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun may start all of them anew
    return PrefixStore(f"watch/{again}/{number}", store)


@contextmanager
def _explained(watch: Watch) -> Iterator[None]:
    """Tell the others of an error, and name the process that is its cause."""
    try:
        yield
    except RuntimeError as error:  # what torch raises when another process is gone
        if found := watch.explain():
            watch.end()
            raise ProcessError(found) from error
        _tell(watch, error)
        raise
    except ProcessError:
        watch.end()
        raise
    except BaseException as error:
        _tell(watch, error)
        raise


def _tell(watch: Watch, error: BaseException) -> None:
    words = str(error) if isinstance(error, EclipticError) else repr(error)
    watch.end(f"{type(error).__name__}: {words}" if isinstance(error, EclipticError) else words)
    time.sleep(4 * PAUSE)  # until all have read it; then torchrun ends them, or their store is gone
