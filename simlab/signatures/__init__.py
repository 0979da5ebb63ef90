"""Clinical signatures: events -> daily curves -> scaling -> independent sources, read at scan dates (docs/rendered.md).

    signatures = fit(cohort.events, training, Settings(signatures=10), rng)     # training: a mask of records
    stream = signatures.read(cohort.events, scan_times, exists)                 # a Stream; nothing after a scan enters
"""

from simlab.signatures.fit import Signatures, fit
from simlab.signatures.settings import Channel, Settings

__all__ = ["Channel", "Settings", "Signatures", "fit"]
