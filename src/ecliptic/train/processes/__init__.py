"""Training on several processes."""

from ecliptic.train.processes.ring import ProcessRing as ProcessRing
