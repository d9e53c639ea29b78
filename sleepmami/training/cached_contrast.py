"""How the contrast runs over a whole batch that no worker holds at once: gradient caching.

Eq. 2 needs the embeddings of all slots of a batch, accumulated micro batches hold a part of them.
So the embeddings are made twice (Gao et al., 2021, "Scaling deep contrastive learning batch size
under memory limited setup"): first all of them without gradients, gathered over the workers, to
compute the loss once and its gradient per embedding; then each micro batch's own, with gradients,
whose product with that gradient has the gradient of the loss with respect to the weights.

Shapes: S streams, N slots of one micro batch, A slots of all of this worker's, D features.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sleepmami.training import collectives

Loss = Callable[[Tensor, Tensor], Tensor]  # (features [S, ., D], valid [S, .]) -> scalar


class CachedContrast(NamedTuple):
    """A loss over the slots of all workers and micro batches, and its gradient at this worker's.

    Attributes:
        loss: its value, the same on every worker.
        slots_SGD: the slots of all workers and micro batches.
        valid_SG: which of them are there.
        gradients: [S, N, D] of each micro batch, scaled such that the mean over workers and micro
            batches, which a step descends, is the gradient of the one loss.
    """

    loss: Tensor
    slots_SGD: Tensor
    valid_SG: Tensor
    gradients: tuple[Tensor, ...]

    def loss_of(self, index: int, slots_SND: Tensor) -> Tensor:
        """The loss, with the gradient that it has through one micro batch's slots."""
        product = (slots_SND * self.gradients[index]).sum()
        return self.loss + product - product.detach()


def cached_contrast(slots: Sequence[tuple[Tensor, Tensor]], loss: Loss) -> CachedContrast:
    """Gather the slots of all micro batches and workers, and differentiate `loss` over them.

    Args:
        slots: (features, valid) of each of this worker's micro batches; every worker has as many.
        loss: of the slots of the whole batch, in the order worker by worker.

    Raises:
        TrainingError: on every worker, when one has more slots than another.
    """
    own_SAD = torch.cat([features_SND for features_SND, _ in slots], dim=1).detach()
    valid_SA = torch.cat([valid_SN for _, valid_SN in slots], dim=1)
    valid_SG = collectives.gather_rows(valid_SA, dim=1)
    with torch.enable_grad():
        own_SAD.requires_grad_()
        slots_SGD = collectives.gather_rows(own_SAD, dim=1)
        value = loss(slots_SGD, valid_SG)
        (gradient_SAD,) = torch.autograd.grad(value, own_SAD)  # already times the workers
    lengths = [features_SND.shape[1] for features_SND, _ in slots]
    gradients = torch.split(gradient_SAD * len(slots), lengths, dim=1)
    return CachedContrast(value.detach(), slots_SGD.detach(), valid_SG, gradients)
