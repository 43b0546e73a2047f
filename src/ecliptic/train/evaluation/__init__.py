"""What is measured of a model on held-out pairs, during a run and at its end."""

from ecliptic.train.evaluation.measures import Evaluation as Evaluation
