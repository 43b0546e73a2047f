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
    from ecliptic.scoring.clip_scores import (
        PREFIX as PREFIX,
        WEIGHT as WEIGHT,
        clip_iqa as clip_iqa,
        clip_score as clip_score,
        direction_loss as direction_loss,
        directional_similarity as directional_similarity,
        preference as preference,
        recall_at as recall_at,
        ref_clip_score as ref_clip_score,
        softmax_in_groups as softmax_in_groups,
        text_direction as text_direction,
        torchmetrics_clip_score as torchmetrics_clip_score,
    )
    from ecliptic.scoring.comparison import (
        PairedComparison as PairedComparison,
        compare_pairs as compare_pairs,
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
    from ecliptic.scoring.ratings.choices import (
        ChoiceFit as ChoiceFit,
        fit_choices as fit_choices,
        solve_choices as solve_choices,
    )
    from ecliptic.scoring.ratings.folds import (
        FOLDS as FOLDS,
        split_folds as split_folds,
        take_groups as take_groups,
    )
    from ecliptic.scoring.ratings.ridge import (
        RidgeFit as RidgeFit,
        cross_predict as cross_predict,
        fit_ridge as fit_ridge,
        solve_ridge as solve_ridge,
    )
    from ecliptic.scoring.row_pairs import (
        RunningMean as RunningMean,
        pair_cosines as pair_cosines,
    )
    from ecliptic.scoring.sets import (
        alignment as alignment,
        clip_i as clip_i,
        cmmd as cmmd,
        cmmd_test as cmmd_test,
        modality_gap as modality_gap,
        uniformity as uniformity,
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

__getattr__, __dir__ = lazy_names(__name__)
