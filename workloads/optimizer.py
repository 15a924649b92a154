"""Which update rule a run follows, by the word that study files use.

What to use when: `sgd` where the batch law is at stake, whose noise scale is that of heavy-ball
SGD; `nesterov` looks ahead by one step of the velocity; `adam` and `adamw` scale every parameter's
step by its own gradients, for models that plain SGD trains badly (attention). With `adam`, weight
decay joins the gradient and is scaled with it; with `adamw` it shrinks the weights by themselves.

g is the mean gradient of the batch, ε the learning rate of the step, m the momentum, λ the weight
decay, w the weights; v and s begin at 0.
"""

from enum import StrEnum

__all__ = ["ADAM_EPSILON", "ADAM_SQUARE_DECAY", "Optimizer"]

ADAM_SQUARE_DECAY = 0.999
"""β₂, how slowly the mean of squared gradients fades. Source: Kingma & Ba 2015, algorithm 1,
arXiv:1412.6980."""

ADAM_EPSILON = 1e-8
"""Added to the root of that mean, so that nothing is divided by 0. Source: the same."""


class Optimizer(StrEnum):
    """An update rule. All are torch.optim's, in its form."""

    SGD = "sgd"
    """Heavy ball: v ← m v + g + λ w, w ← w − ε v. torch.optim.SGD."""
    NESTEROV = "nesterov"
    """g ← g + λ w, v ← m v + g, w ← w − ε (g + m v). torch.optim.SGD with nesterov=True; the same
    as `sgd` where m is 0. Source: Sutskever et al. 2013, "On the importance of initialization and
    momentum in deep learning", in torch's variant."""
    ADAM = "adam"
    """g ← g + λ w, v ← m v + (1 − m) g, s ← β₂ s + (1 − β₂) g², and after step t
    w ← w − ε (v / (1 − m^t)) / (√(s / (1 − β₂^t)) + 10⁻⁸): the momentum m is β₁, and β₂ is .999.
    Source: Kingma & Ba 2015, arXiv:1412.6980."""
    ADAMW = "adamw"
    """As `adam`, but the decay leaves the gradient alone: w ← (1 − ε λ) w before the step.
    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, in torch's form, where λ is scaled by ε."""

    @property
    def is_adaptive(self) -> bool:
        """Whether every parameter's step is scaled by its own gradients."""
        return self in (Optimizer.ADAM, Optimizer.ADAMW)
