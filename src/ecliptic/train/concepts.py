"""A vector for each concept of the data, which its images and texts are drawn to.

The other texts of a batch are few negatives; the vectors of all concepts are many, and never out
of date. They are trained with the model and left out of it at the end. Source: Movshovitz-Attias
et al. 2017, "No fuss distance metric learning using proxies", arXiv:1703.07464, with the softmax of
Zhai & Wu 2019, arXiv:1811.12649. B pairs, C concepts, E vector size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.errors import ConfigError
from ecliptic.train.data import Conceptual, Examples, caption_ids
from ecliptic.train.settings import InfoNCEConfig, TrainSettings

TEMPERATURE = 0.05  # section 3.2 of Zhai & Wu; that of the model falls too low at the beginning


class Proxies(nn.Module):
    """The vectors of concepts, and the loss of a batch with them.

    Args:
        names: of the concepts; those that differ in case and spaces only are one.
        embed: E.
        seed: of the vectors at the start.
    """

    numbers: Tensor

    def __init__(self, names: Sequence[str], embed: int, seed: int = 0) -> None:
        super().__init__()
        numbers = torch.unique(caption_ids(names))  # sorted
        self.register_buffer("numbers", numbers)
        random = torch.Generator().manual_seed(seed)
        self.vectors = nn.Parameter(torch.randn(len(numbers), embed, generator=random))
        with torch.no_grad():
            self.vectors.mul_(embed**-0.5)

    def loss(self, images: Tensor, texts: Tensor, captions: Tensor) -> Tensor:
        """The mean cross entropy of images and texts (B, E) over all concepts; unit vectors.

        Args:
            images, texts: of the pairs.
            captions: (B,) the number of the concept of each.
        """
        places = torch.searchsorted(self.numbers, captions.to(self.numbers))
        vectors = F.normalize(self.vectors, dim=-1)
        both = torch.cat([images, texts])
        return F.cross_entropy(both @ vectors.T / TEMPERATURE, places.repeat(2))


def make_proxies(
    settings: TrainSettings, embed: int, sources: Sequence[Examples], processes: int
) -> Proxies | None:
    """The vectors of all concepts of some sources; None if the loss has none.

    Raises:
        ConfigError: a source has captions, but no concepts; or several processes.
    """
    loss = settings.loss
    if not isinstance(loss, InfoNCEConfig) or not loss.concepts:
        return None
    if processes > 1:
        raise ConfigError(
            "loss.concepts is for one process, as its vectors are not shared; leave it out."
        )
    names: list[str] = []
    for number, source in enumerate(sources):
        if not isinstance(source, Conceptual):
            raise ConfigError(
                f"loss.concepts needs the concept of each example, which source {number} of "
                "data.sources does not name; leave it out, or train on drawings."
            )
        names += source.concepts
    return Proxies(names, embed, settings.seed)
