"""How far the answers of the demo can be trusted: abstention, intervals, and a learnt taste.

I pictures, L labels, E vector size.
"""

from collections.abc import Sequence

from torch import Tensor

from ecliptic.engine import Card
from ecliptic.report.questions import Questions
from ecliptic.report.showcase.results import CaptionScores, Caution, Guess, Judgements, Taste
from ecliptic.scoring import bootstrap, compare_pairs, cosine
from ecliptic.tasks import RatingReport, rank_images, train_on_ratings

LEASTS = (0.0, 0.5, 0.8)  # probabilities below which there is no answer
LIKED, OTHER = 5.0, 1.0  # ratings
EACH = 3  # one picture of so many is not rated


def judge_answers(
    questions: Questions, guesses: Sequence[Guess], images: Tensor, labels: Tensor, card: Card
) -> Judgements:
    """Everything about trust.

    Args:
        questions: about I pictures and L labels.
        guesses: of every picture; none if there is only one label.
        images: (I, E) unit vectors.
        labels: (L, E) unit vectors.
        card: of the model.
    """
    cautions = tuple(_abstain(guesses, least, known=questions.known) for least in LEASTS if guesses)
    if not questions.known:
        return Judgements(cautions)
    taste = _learn_taste(questions, images, card) if questions.liked else None
    return Judgements(cautions, _score_names(questions, images, labels), taste)


def _abstain(guesses: Sequence[Guess], least: float, *, known: bool) -> Caution:
    answered = [guess for guess in guesses if not guess.open and guess.labels[0][1] >= least]
    right = sum(guess.right for guess in answered) if known else None
    return Caution(least, len(guesses), len(answered), right)


def _score_names(questions: Questions, images: Tensor, labels: Tensor) -> CaptionScores:
    """CLIP-T of every picture with its name, and the mean with all other names."""
    cosines = cosine(images, labels).double()  # (I, L)
    rows = range(len(questions.pictures))
    columns = [questions.labels.index(picture.name) for picture in questions.pictures]
    own = cosines[list(rows), columns]
    others = (cosines.sum(dim=1) - own) / (len(questions.labels) - 1)
    return CaptionScores(bootstrap(own), float(others.mean()), compare_pairs(own, others))


def _learn_taste(questions: Questions, images: Tensor, card: Card) -> Taste:
    """A head trained on ratings of two pictures of three, and its scores of the third."""
    names = [picture.name for picture in questions.pictures]
    rated = [place for place in range(len(names)) if (place + 1) % EACH]
    rest = [place for place in range(len(names)) if not (place + 1) % EACH]
    ratings = [LIKED if names[place] in questions.liked else OTHER for place in rated]
    fit = train_on_ratings(images[rated], ratings, card)
    assert isinstance(fit.report, RatingReport)
    ranked = rank_images([names[place] for place in rest], fit.head.apply(images[rest]))
    pictures = {picture.name: picture for picture in questions.pictures}
    return Taste(
        len(rated),
        fit.report.spearman,
        tuple((pictures[one.name], one.score, one.name in questions.liked) for one in ranked),
    )
