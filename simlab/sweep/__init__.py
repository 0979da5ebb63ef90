"""Sweeps: study files, cells, one-thread workers, results, verdicts and the map (`python -m simlab.sweep`).

Importing this package imports no array module, so that `--help` and `--list` answer at once. docs/sweeps.md is the
user's page.
"""

import time

BEGUN = time.time()  # before the modules that compute are imported (`simlab.sweep.keys`)
