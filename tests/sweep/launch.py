"""The sweep command with a fake job, as a process: python launch.py FUNCTION ARGUMENT..."""

from __future__ import annotations

import sys

from simlab.errors import command
from simlab.sweep.__main__ import main

if __name__ == "__main__":
    function, *arguments = sys.argv[1:]
    sys.exit(command(lambda argv: main(argv, function=f"sweep_fakes:{function}"), arguments))
