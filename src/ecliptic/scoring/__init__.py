"""Pure functions on vectors and cosines: similarities, probabilities, ranks, calibration."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.scoring.binomial import binomial_tail as binomial_tail
    from ecliptic.scoring.calibration import (
        NONE_OF_THESE as NONE_OF_THESE,
        Calibration as Calibration,
        CalibrationFit as CalibrationFit,
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
        FEWEST_UNITS as FEWEST_UNITS,
        Interval as Interval,
        bootstrap as bootstrap,
        clopper_pearson as clopper_pearson,
        standard_error as standard_error,
        wilson as wilson,
        wilson_of_groups as wilson_of_groups,
        wilson_of_share as wilson_of_share,
    )
    from ecliptic.scoring.labels.background import (
        FEWEST_REFERENCES as FEWEST_REFERENCES,
        Background as Background,
        above_background as above_background,
        fit_background as fit_background,
    )
    from ecliptic.scoring.labels.calibrators import (
        IsotonicScaling as IsotonicScaling,
        OpenTemperature as OpenTemperature,
        Platt as Platt,
        PlattScaling as PlattScaling,
        Temperature as Temperature,
        fit_isotonic_scaling as fit_isotonic_scaling,
        fit_open_temperature as fit_open_temperature,
        fit_platt as fit_platt,
        fit_platt_scaling as fit_platt_scaling,
        fit_temperature as fit_temperature,
        log_odds as log_odds,
    )
    from ecliptic.scoring.labels.conformal import (
        ConformalSets as ConformalSets,
        SetKind as SetKind,
        fewest_for_sets as fewest_for_sets,
        fit_sets as fit_sets,
        nonconformity as nonconformity,
    )
    from ecliptic.scoring.labels.detection import (
        auroc as auroc,
        average_precision as average_precision,
        false_positive_rate as false_positive_rate,
    )
    from ecliptic.scoring.labels.few_shot import (
        FEWEST_PER_LABEL as FEWEST_PER_LABEL,
        FewShot as FewShot,
        FewShotFit as FewShotFit,
        LinearProbe as LinearProbe,
        TipAdapter as TipAdapter,
        fit_probe as fit_probe,
        fit_tip_adapter as fit_tip_adapter,
        stratified_folds as stratified_folds,
    )
    from ecliptic.scoring.labels.isotonic import (
        Isotonic as Isotonic,
        fit_isotonic as fit_isotonic,
    )
    from ecliptic.scoring.labels.measures import (
        confusion_matrix as confusion_matrix,
        label_ranks as label_ranks,
        mean_average_precision as mean_average_precision,
        mean_per_class as mean_per_class,
    )
    from ecliptic.scoring.labels.reliability import (
        BINS as BINS,
        NONE as NONE,
        Reliability as Reliability,
        add_none as add_none,
        brier_score as brier_score,
        chances_of as chances_of,
        log_loss as log_loss,
        reliability_bins as reliability_bins,
    )
    from ecliptic.scoring.labels.trees import (
        STOP as STOP,
        LabelTree as LabelTree,
        make_tree as make_tree,
        read_tree as read_tree,
    )
    from ecliptic.scoring.paired_tests import (
        mcnemar as mcnemar,
        sign_flip_test as sign_flip_test,
    )
    from ecliptic.scoring.ratings.bounds import (
        bound_correlation as bound_correlation,
        bound_share as bound_share,
        noise_share as noise_share,
    )
    from ecliptic.scoring.ratings.choices import (
        STRENGTHS as STRENGTHS,
        ChoiceFit as ChoiceFit,
        HeldOutChoices as HeldOutChoices,
        cross_choose as cross_choose,
        fit_choices as fit_choices,
        solve_choices as solve_choices,
    )
    from ecliptic.scoring.ratings.folds import (
        FOLDS as FOLDS,
        split_folds as split_folds,
        take_groups as take_groups,
    )
    from ecliptic.scoring.ratings.ridge import (
        ALPHAS as ALPHAS,
        HeldOutScores as HeldOutScores,
        RidgeFit as RidgeFit,
        cross_predict as cross_predict,
        fit_ridge as fit_ridge,
        solve_ridge as solve_ridge,
    )
    from ecliptic.scoring.row_pairs import (
        RunningMean as RunningMean,
        pair_cosines as pair_cosines,
    )
    from ecliptic.scoring.safety import (
        IF_THRESHOLD as IF_THRESHOLD,
        SafetyScores as SafetyScores,
        is_above as is_above,
        layer_scores as layer_scores,
        linear_scores as linear_scores,
        safety_scores as safety_scores,
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
    from ecliptic.scoring.thresholds import (
        PrecisionThreshold as PrecisionThreshold,
        RecallThreshold as RecallThreshold,
        ScoreValues as ScoreValues,
        fewest_accepted as fewest_accepted,
        fewest_positives as fewest_positives,
        precision_threshold as precision_threshold,
        recall_threshold as recall_threshold,
        to_truth as to_truth,
    )

__getattr__, __dir__ = lazy_names(__name__)
