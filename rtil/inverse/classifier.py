"""A classifier as the measurement (Daras et al., ICML 2021, section 4.3 and figure 5).

There is no picture to reconstruct. A(x) = log p(. | x) over a classifier's classes, y is the wanted class, and the
error of a picture is its negative log-likelihood -log p(class | x) in place of a squared distance. A solver that
minimises it finds pictures that the classifier takes for that class; how far they leave the generator's range is
decided by the solver's l1 balls.

Example: ``task = Classification(network, (3, 64, 64), 1000); ILO(G).invert(task.target([1] * 8), task).x``
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtil.errors import UserError
from rtil.inverse.operators.nonlinear import NonlinearOperator


class Classification(NonlinearOperator):
    """The log-probabilities that a classifier gives a picture.

    Pictures are clamped to [0, 1] before they are classified: values that no picture has must not convince it.

    Args:
        classifier: Maps pictures [N, 3, H, W] in [0, 1] to logits [N, K], differentiably and each on its own; any
            function or module, such as a :class:`rtil.weights.classifiers.Classifier`.
        img_size: (C, H, W).
        num_classes: K.
        name: What is measured, for reports.

    Raises:
        UserError: The classifier is a module in training mode, where batch normalisation mixes pictures.
    """

    entries_have_errors = False

    def __init__(
        self,
        classifier: Callable[[Tensor], Tensor],
        img_size: Sequence[int],
        num_classes: int,
        name: str = "classifier",
    ) -> None:
        super().__init__(img_size, (num_classes,), name)
        if isinstance(classifier, nn.Module) and any(module.training for module in classifier.modules()):
            raise UserError("the classifier is in training mode, which mixes the pictures of a batch: call its eval()")
        self.classifier = classifier

    def measure(self, x: Tensor) -> Tensor:
        """Return log p(. | x), [N, K].

        Raises:
            UserError: The classifier returns something else than K logits for each picture.
        """
        logits = self.classifier(x.clamp(0, 1))
        if not isinstance(logits, Tensor) or logits.shape != (len(x), *self.measurement_shape):
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"the classifier returns {got}: valid are logits [N, {self.measurement_shape[0]}]")
        return F.log_softmax(logits, 1)

    def error(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return -log p(class | x), [N]: the cross-entropy of y and the classifier's opinion.

        Args:
            x: Pictures [N, C, H, W].
            y: Wanted probabilities [N, K] of the classes, such as :meth:`target`.
            weight: Plays no part: classes have no errors of their own.
        """
        return -(y * self.A(x)).sum(1)

    def target(self, classes: Sequence[int]) -> Tensor:
        """Return the measurements y [N, K] that stand for N wanted classes: a one at each.

        Raises:
            UserError: A class that the classifier does not have.
        """
        K = self.measurement_shape[0]
        wrong = [c for c in classes if not 0 <= c < K]
        if wrong:
            raise UserError(f"class {wrong[0]} does not exist: valid are 0 to {K - 1}")
        return F.one_hot(torch.tensor(classes, device=self.all_observed.device), K).float()
