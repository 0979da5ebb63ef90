"""The sweep command with a fake job, as a process: python launch.py FUNCTION ARGUMENT..."""

from __future__ import annotations

import signal
import sys

from simlab.errors import command
from simlab.sweep.__main__ import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with Ctrl-C ignored
    function, *arguments = sys.argv[1:]
    sys.exit(command(lambda argv: main(argv, function=f"sweep_fakes:{function}"), arguments))
