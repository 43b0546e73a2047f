"""Contrastive training: any data, any part of the model, any batch, any number of processes.

The settings import no torch; the other names are imported when first used.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.train import losses as losses
    from ecliptic.train.data import (
        DrawingExamples as DrawingExamples,
        open_drawings as open_drawings,
        vary_caption as vary_caption,
    )
    from ecliptic.train.effects import find_notes as find_notes
    from ecliptic.train.environment import ResumeWarning as ResumeWarning
    from ecliptic.train.explanation import Explanation as Explanation, explain as explain
    from ecliptic.train.history import METRICS as METRICS, Report as Report
    from ecliptic.train.loop import read_settings as read_settings, resume as resume, train as train
    from ecliptic.train.processes import (
        count_processes as count_processes,
        is_first_process as is_first_process,
    )
    from ecliptic.train.run_folder import RunFolder as RunFolder
    from ecliptic.train.session import (
        HealthWarning as HealthWarning,
        Run as Run,
    )
    from ecliptic.train.settings import (
        CheckpointSettings as CheckpointSettings,
        DatasetConfig as DatasetConfig,
        DataSettings as DataSettings,
        DistillationConfig as DistillationConfig,
        DrawingsConfig as DrawingsConfig,
        EmaSettings as EmaSettings,
        EvaluateSettings as EvaluateSettings,
        FolderConfig as FolderConfig,
        HeldOutSettings as HeldOutSettings,
        InfoNCEConfig as InfoNCEConfig,
        OptimSettings as OptimSettings,
        ProcessSettings as ProcessSettings,
        SigLIPConfig as SigLIPConfig,
        TableConfig as TableConfig,
        TarsConfig as TarsConfig,
        TextPairsSettings as TextPairsSettings,
        TowerSettings as TowerSettings,
        TrainSettings as TrainSettings,
        WordNetConfig as WordNetConfig,
    )

__getattr__, __dir__ = lazy_names(__name__)
