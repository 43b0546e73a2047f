"""Answers from vectors, one file per task on top of `Clip`: scores, classes, moderation, taste.

Names are lazy, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.tasks.aesthetic.head import AestheticHead as AestheticHead
    from ecliptic.tasks.aesthetic.ranking import (
        ScoredImage as ScoredImage,
        count_digits as count_digits,
        keep_best as keep_best,
        rank_images as rank_images,
    )
    from ecliptic.tasks.aesthetic.rated import (
        RatedVectors as RatedVectors,
        RatingTable as RatingTable,
        encode_ratings as encode_ratings,
        read_ratings as read_ratings,
    )
    from ecliptic.tasks.aesthetic.reports import (
        ChoiceReport as ChoiceReport,
        RatingReport as RatingReport,
    )
    from ecliptic.tasks.aesthetic.training import (
        HeadFit as HeadFit,
        train_on_choices as train_on_choices,
        train_on_ratings as train_on_ratings,
    )
    from ecliptic.tasks.classification.classifier import Classifier as Classifier
    from ecliptic.tasks.classification.evaluation import (
        mean_per_class_interval as mean_per_class_interval,
    )
    from ecliptic.tasks.classification.files import (
        check_classifier_path as check_classifier_path,
    )
    from ecliptic.tasks.classification.fitting import FitSummary as FitSummary
    from ecliptic.tasks.classification.predictions import Predictions as Predictions
    from ecliptic.tasks.classification.report import (
        FEWEST_OF_BIN as FEWEST_OF_BIN,
        SHARE as SHARE,
        AnsweredShare as AnsweredShare,
        ClassificationReport as ClassificationReport,
        HardImage as HardImage,
        KeptShare as KeptShare,
        LabelRow as LabelRow,
        SetCoverage as SetCoverage,
        UnknownDetection as UnknownDetection,
        say_answer as say_answer,
    )
    from ecliptic.tasks.classification.settings import (
        LEARNERS as LEARNERS,
        METHODS as METHODS,
        FitSettings as FitSettings,
        Learner as Learner,
        Method as Method,
        Promises as Promises,
    )
    from ecliptic.tasks.classification.truths import check_label as check_label
    from ecliptic.tasks.moderation.audits import (
        AuditReport as AuditReport,
        SliceAudit as SliceAudit,
        audit_scores as audit_scores,
    )
    from ecliptic.tasks.moderation.checkers import SafetyChecker as SafetyChecker
    from ecliptic.tasks.moderation.moderator import Moderator as Moderator
    from ecliptic.tasks.moderation.nsfw_heads import (
        NsfwHead as NsfwHead,
        read_nsfw_head as read_nsfw_head,
    )
    from ecliptic.tasks.moderation.prototypes import STEADY_REFERENCES as STEADY_REFERENCES
    from ecliptic.tasks.moderation.rules import (
        Concept as Concept,
        Rules as Rules,
        read_rules as read_rules,
        require_thresholds as require_thresholds,
    )
    from ecliptic.tasks.moderation.rulesets import (
        Ruleset as Ruleset,
        Tuning as Tuning,
    )
    from ecliptic.tasks.moderation.sampling import (
        recall_with_sample as recall_with_sample,
        sample_accepted as sample_accepted,
    )
    from ecliptic.tasks.moderation.verdicts import (
        ImageVerdict as ImageVerdict,
        Reason as Reason,
        reject as reject,
        review_queue as review_queue,
    )
    from ecliptic.tasks.scores.image_sets import (
        SET_SCORES as SET_SCORES,
        SetScore as SetScore,
        score_sets as score_sets,
    )
    from ecliptic.tasks.scores.metrics import (
        METRICS as METRICS,
        Metric as Metric,
        find_metric as find_metric,
    )
    from ecliptic.tasks.scores.notes import ScoredRun as ScoredRun
    from ecliptic.tasks.scores.rows import (
        ImageFolder as ImageFolder,
        RowColumns as RowColumns,
        ScoreRow as ScoreRow,
        folder_rows as folder_rows,
        image_rows as image_rows,
        table_rows as table_rows,
    )
    from ecliptic.tasks.scores.scorer import RowScorer as RowScorer
    from ecliptic.tasks.scores.sheet import (
        ScoreSheet as ScoreSheet,
        score_pairs as score_pairs,
        score_rows as score_rows,
        score_vectors as score_vectors,
        start_sheet as start_sheet,
    )
    from ecliptic.tasks.scores.summary import (
        ScoredExample as ScoredExample,
        ScoreSummary as ScoreSummary,
    )

__getattr__, __dir__ = lazy_names(__name__)
