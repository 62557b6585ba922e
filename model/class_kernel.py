"""Classes guessed from a modality's own features by kernel ridge regression, for training rows as if they were new.

Closed form: a Gaussian kernel against landmarks (all training rows where there are few enough, the Nystroem method with
a random subset of them otherwise), and for every training row the prediction of a fit that leaves it out, which costs
no second fit (Allen's PRESS: (fitted - h y) / (1 - h) with leverage h). Platt's sigmoid, two numbers a class, fitted on
these predictions of all rows, makes them probabilities: there alone a row's own label takes a part, one of N.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

NARROWNESS = 2.0  # of the kernel exp(-NARROWNESS * squared distance / mean squared distance of landmarks)
RIDGE = 0.3
JITTER = 1e-6  # on the diagonal of the landmarks' kernel: equal landmarks are harmless
STEPS = 100  # of L-BFGS for the sigmoids


class ClassKernel(nn.Module):
    """(B, dim) features -> (B, C) probabilities; frozen after ``fit``, 0.5 before."""

    landmarks: Tensor  # (M, dim); those beyond the training rows weigh nothing
    norms: Tensor  # (M,) their squares: longer to make than the rest of a forward, and no part of the state
    weights: Tensor  # (M + 1, C), the last row is the bias
    scale: Tensor  # () what a squared distance is multiplied with
    slope: Tensor  # (C,) of the sigmoid
    offset: Tensor  # (C,)

    def __init__(self, dim: int, classes: int, landmarks: int) -> None:
        super().__init__()
        self.register_buffer("landmarks", torch.zeros(landmarks, dim))
        self.register_buffer("norms", torch.zeros(landmarks), persistent=False)
        self.register_load_state_dict_post_hook(_measure_loaded)  # type: ignore[no-untyped-call]
        self.register_buffer("weights", torch.zeros(landmarks + 1, classes))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("slope", torch.ones(classes))
        self.register_buffer("offset", torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """What an input gets that nothing was learned from."""
        kernel = _kernel(features, self.landmarks, self.scale, self.norms)
        return self._probabilities(kernel @ self.weights[:-1] + self.weights[-1])

    @torch.no_grad()
    def measure_landmarks(self) -> None:
        """Follow landmarks that were set."""
        self.norms.copy_(_squares(self.landmarks))

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor, seed: int) -> Tensor:
        """Learn from (N, dim) features and (N, C) multi-hot labels -> (N, C) probabilities of rows left out.

        A row without labels teaches nothing and is predicted as a new input is.
        """
        known = labels.any(1).nonzero().squeeze(1)
        if len(known) > 1:
            rows, truth = features[known].double(), labels[known].double()
            generator = torch.Generator().manual_seed(seed)
            picked = torch.randperm(len(known), generator=generator)[: len(self.landmarks)].sort().values
            left_out = self._solve(rows, truth, rows[picked.to(rows.device)])
            self.slope[:], self.offset[:] = _sigmoids(left_out, truth)
        guessed: Tensor = self(features)
        if len(known) > 1:
            guessed[known] = self._probabilities(left_out.to(guessed.dtype))
        return guessed

    def _solve(self, rows: Tensor, truth: Tensor, landmarks: Tensor) -> Tensor:
        """(N, dim), (N, C) and (M, dim) -> (N, C) scores of rows left out."""
        count = len(landmarks)
        mean = _squared_distances(landmarks, landmarks, _squares(landmarks)).mean()
        self.scale.fill_(NARROWNESS / mean.clamp(min=1e-12))
        scale = self.scale.double()
        among = _kernel(landmarks, landmarks, scale)
        root = torch.linalg.cholesky(among + JITTER * torch.eye(count, dtype=among.dtype, device=among.device))
        mapped = torch.linalg.solve_triangular(root, _kernel(rows, landmarks, scale).T, upper=False).T
        mapped = torch.cat([mapped, torch.ones_like(mapped[:, :1])], dim=1)  # (N, M + 1), the last for the bias
        gram = mapped.T @ mapped
        gram.diagonal().add_(RIDGE)
        gram_root = torch.linalg.cholesky(gram)
        solved = torch.cholesky_solve(mapped.T @ truth, gram_root)  # (M + 1, C)
        leverage = torch.linalg.solve_triangular(gram_root, mapped.T, upper=False).square().sum(0).unsqueeze(1)
        self.landmarks[:count] = landmarks.float()
        self.measure_landmarks()
        self.weights[:count] = torch.linalg.solve_triangular(root.T, solved[:-1], upper=True).float()
        self.weights[-1] = solved[-1].float()
        left_out: Tensor = (mapped @ solved - leverage * truth) / (1 - leverage)
        return left_out

    def _probabilities(self, scores: Tensor) -> Tensor:
        probabilities: Tensor = (self.slope * scores + self.offset).sigmoid()
        return probabilities


def _measure_loaded(kernel: ClassKernel, _: object) -> None:
    kernel.measure_landmarks()


def _kernel(a: Tensor, b: Tensor, scale: Tensor, squares: Tensor | None = None) -> Tensor:
    """(N, dim) and (M, dim), whose squares (M,) may be known -> (N, M)."""
    return (-scale * _squared_distances(a, b, _squares(b) if squares is None else squares)).exp()


def _squared_distances(a: Tensor, b: Tensor, squares: Tensor) -> Tensor:
    """(N, dim), (M, dim) and the squares (M,) of the latter -> (N, M)."""
    return (_squares(a).unsqueeze(1) + squares - 2 * a @ b.T).clamp(min=0)


def _squares(rows: Tensor) -> Tensor:
    """(N, dim) -> (N,)."""
    return rows.square().sum(1)


def _sigmoids(scores: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset of each class from (N, C) scores and multi-hot labels, toward Platt's smoothed targets.

    A slope is positive: where nothing can be foretold, the score of a row that was left out falls with its own label,
    which a negative slope would give away.
    """
    positive = truth.sum(0)
    negative = len(truth) - positive
    targets = torch.where(truth > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    log_slope = torch.full_like(positive, 1.5).requires_grad_()
    offset = torch.full_like(positive, -3.0).requires_grad_()
    optimiser = torch.optim.LBFGS([log_slope, offset], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = binary_cross_entropy_with_logits(log_slope.exp() * scores + offset, targets)
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return log_slope.detach().exp(), offset.detach()
