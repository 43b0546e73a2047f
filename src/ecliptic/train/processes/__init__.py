"""Training on several processes, which torchrun starts."""

from ecliptic.train.processes.ring import ProcessRing as ProcessRing
from ecliptic.train.processes.shards import (
    clip_gradients as clip_gradients,
    fill as fill,
    gather_whole as gather_whole,
    is_shard as is_shard,
    whole as whole,
)
from ecliptic.train.processes.world import (
    World as World,
    count_processes as count_processes,
    is_first_process as is_first_process,
    join as join,
)
from ecliptic.train.processes.wrapping import distribute as distribute
