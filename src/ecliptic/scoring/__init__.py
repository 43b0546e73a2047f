"""Pure functions on vectors and cosines: similarities, probabilities, ranks, calibration."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.scoring.binomial import binomial_tail as binomial_tail
    from ecliptic.scoring.calibration import (
        NONE as NONE,
        NONE_OF_THESE as NONE_OF_THESE,
        Calibration as Calibration,
        CalibrationFit as CalibrationFit,
        add_none as add_none,
        calibration_error as calibration_error,
        fit_calibration as fit_calibration,
    )
    from ecliptic.scoring.correlation import (
        average_ranks as average_ranks,
        correlate_rows as correlate_rows,
        pearson as pearson,
        spearman as spearman,
    )
    from ecliptic.scoring.intervals import (
        Interval as Interval,
        bootstrap as bootstrap,
        clopper_pearson as clopper_pearson,
        wilson as wilson,
    )
    from ecliptic.scoring.paired_tests import (
        mcnemar as mcnemar,
        sign_flip_test as sign_flip_test,
    )
    from ecliptic.scoring.safety import (
        IF_THRESHOLD as IF_THRESHOLD,
        SafetyScores as SafetyScores,
        is_above as is_above,
        layer_scores as layer_scores,
        linear_scores as linear_scores,
        safety_scores as safety_scores,
    )
    from ecliptic.scoring.similarity import (
        Rows as Rows,
        SpacedRows as SpacedRows,
        cosine as cosine,
        ensemble as ensemble,
        probabilities as probabilities,
        ranks as ranks,
        to_tensor as to_tensor,
    )
    from ecliptic.scoring.thresholds import (
        PrecisionThreshold as PrecisionThreshold,
        RecallThreshold as RecallThreshold,
        ScoreRow as ScoreRow,
        fewest_accepted as fewest_accepted,
        fewest_positives as fewest_positives,
        precision_threshold as precision_threshold,
        recall_threshold as recall_threshold,
        to_truth as to_truth,
    )

__getattr__, __dir__ = lazy_names(__name__)
