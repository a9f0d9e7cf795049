"""Starting several processes on this machine, by torchrun's own agent."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Sequence

from fxbio.errors import ConfigError, ProcessError

__all__ = ["first_process", "inside_torchrun", "launch"]


def inside_torchrun() -> bool:
    """True if this process is one of several that were started together."""
    return "RANK" in os.environ


def first_process() -> bool:
    """True if this process speaks and writes for all, as far as it knows before it has met them."""
    return os.environ.get("RANK", "0") == "0"


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run ``fxbio`` with these arguments in several processes, and wait for them.

    SIGTERM and SIGINT are handed on to them by the agent, which then waits for them to leave.

    Args:
        arguments: of the command line, without what asked for several processes.
        processes: how many.

    Returns:
        0, what the first one that failed returned, or 128 and the number of a signal.

    Raises:
        ConfigError: when this is such a process already.
        ProcessError: when one was killed, and could not say so itself.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    if inside_torchrun():
        raise ConfigError("--nproc starts processes, and torchrun has done so already")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    for part in ("agent.server.api", "multiprocessing"):
        # What the agent says of processes that end, they say themselves, and better.
        logging.getLogger(f"torch.distributed.elastic.{part}").setLevel(logging.CRITICAL)
    command = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}"]
    options = get_args_parser().parse_args([*command, "-m", "fxbio", *arguments])
    try:
        run(options)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise _killed(rank, -failure.exitcode) from None
        return failure.exitcode
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _killed(rank: int, number: int) -> ProcessError:
    return ProcessError(
        f"process {rank} was ended by {signal.Signals(number).name}",
        notes=["often memory ran out"] if number == signal.SIGKILL else (),
        help="continue from the last checkpoint with --resume auto",
    )


def _loopback() -> str:
    return next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
