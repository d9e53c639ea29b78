"""What the processes of a service begin with: Ray hands our variables down to all it starts."""

from __future__ import annotations

import os

VARIABLES = {
    # glibc gives threads heaps of their own, eight for each core, and a heap gives back only its
    # end. A process of Serve has forty threads: its heaps grew by 2 MB in each 1000 small requests
    # for thousands of them, while what they held did not (docs/serving.md). With two they stop.
    "MALLOC_ARENA_MAX": "2",
    # Larger objects go through the shared memory of the raylet, which costs 7 ms of CPU for each
    # one-window request; Ray's own limit is 100 kB, and a window has 110, a minute 140. The pieces
    # of large bodies, of 256 kB, stay above it: those in shared memory are not the Ingress's own.
    "RAY_max_direct_call_object_size": str(160 * 2**10),
}


def set_service_environment() -> None:
    """Set those that are not set, before Ray is started; what the operator has set stays.

    A cluster that runs already has an environment of its own.
    """
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
