"""open_clip's constants.py: the means and deviations of colours that models were trained with."""

from ecliptic.inputs import ImageSpec

OPENAI_DATASET_MEAN, OPENAI_DATASET_STD = ImageSpec().mean, ImageSpec().std
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
INCEPTION_MEAN = (0.5, 0.5, 0.5)
INCEPTION_STD = (0.5, 0.5, 0.5)
