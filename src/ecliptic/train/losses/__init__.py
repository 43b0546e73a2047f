"""Contrastive losses whose memory does not grow with the square of the batch."""

from ecliptic.train.losses.classes import (
    Distillation as Distillation,
    InfoNCE as InfoNCE,
    Loss as Loss,
    SigLip as SigLip,
)
from ecliptic.train.losses.ring import Alone as Alone, Ring as Ring
