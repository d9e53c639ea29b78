"""How good and how healthy embeddings are: linear probes, and measures of collapse and leaks.

Shapes: N epochs or slots, F features, C classes, S streams, D width. Groups are subjects.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of the squared weights, per epoch


# ---------------------------------------------------------------------------------------- probes


def linear_probe(
    fit_NF: Floats, fit_label_N: Ints, fit_group_N: Ints, test_NF: Floats, num_classes: int
) -> Floats:
    """Logistic regression on z-scored features: scores [N, C] of the test epochs.

    The penalty is chosen on every third group of the fit set, beginning with the first, then all of
    it is fitted. There must be two groups or more.
    """
    mean_F, std_F = fit_NF.mean(0), fit_NF.std(0) + 1e-6
    fit_NF, test_NF = (fit_NF - mean_F) / std_F, (test_NF - mean_F) / std_F
    held = np.isin(fit_group_N, np.unique(fit_group_N)[::3])
    losses = []
    for penalty in PENALTIES:
        score_NC = _logistic(fit_NF[~held], fit_label_N[~held], fit_NF[held], num_classes, penalty)
        target = torch.from_numpy(fit_label_N[held])
        losses.append(functional.cross_entropy(torch.from_numpy(score_NC), target).item())
    best = PENALTIES[int(np.argmin(losses))]
    return _logistic(fit_NF, fit_label_N, test_NF, num_classes, best)


def _logistic(
    fit_NF: Floats, label_N: Ints, test_NF: Floats, num_classes: int, penalty: float
) -> Floats:
    x_NF, target_N = torch.from_numpy(fit_NF).float(), torch.from_numpy(label_N)
    weight_CF = torch.zeros(num_classes, x_NF.shape[1], requires_grad=True)
    bias_C = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_CF, bias_C], max_iter=100, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(functional.linear(x_NF, weight_CF, bias_C), target_N)
        loss = loss + penalty * weight_CF.square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        score_NC = functional.linear(torch.from_numpy(test_NF).float(), weight_CF, bias_C)
    scores: Floats = score_NC.double().numpy()
    return scores


def staging_scores(label_N: Ints, predicted_N: Ints, num_classes: int) -> dict[str, float]:
    """Accuracy, macro F1 over the classes that occur, and Cohen's kappa."""
    counts_CC = np.zeros((num_classes, num_classes))
    np.add.at(counts_CC, (label_N, predicted_N), 1)
    true_C, guessed_C, hit_C = counts_CC.sum(1), counts_CC.sum(0), counts_CC.diagonal()
    occurs_C = true_C + guessed_C > 0
    f1_C = 2 * hit_C[occurs_C] / (true_C + guessed_C)[occurs_C]
    total = counts_CC.sum()
    accuracy = hit_C.sum() / total
    by_chance = true_C @ guessed_C / total**2
    return {
        "accuracy": float(accuracy),
        "macro_f1": float(f1_C.mean()),
        "kappa": float((accuracy - by_chance) / (1 - by_chance)),
    }


def average_precision(label_N: NDArray[np.bool_], score_N: Floats) -> float:
    """Mean over the positives of the precision at their score; ties share the lowest."""
    order = np.argsort(-score_N, kind="stable")
    last_of_tie = np.append(np.diff(score_N[order]) != 0, True)
    hits, taken = np.cumsum(label_N[order])[last_of_tie], np.flatnonzero(last_of_tie) + 1
    gained = np.diff(hits, prepend=0)
    return float((hits / taken * gained).sum() / label_N.sum())


# ------------------------------------------------------------------------------- health and leaks


def explained_by(group_N: Ints, x_NF: Floats) -> float:
    """Share of the variance of x, over all features together, that lies between the groups."""
    centred_NF = x_NF - x_NF.mean(0)
    between = 0.0
    for group in np.unique(group_N):
        members = centred_NF[group_N == group]
        between += len(members) * np.square(members.mean(0)).sum()
    return float(between / np.square(centred_NF).sum())


def effective_rank(x_NF: Floats) -> float:
    """Exp of the entropy of the covariance's spectrum: 1 for a line, F for a sphere."""
    singular = np.linalg.svd(x_NF - x_NF.mean(0), compute_uv=False)
    share = singular**2 / (singular**2).sum()
    share = share[share > 1e-12]
    return float(np.exp(-(share * np.log(share)).sum()))


def half_of_window(first_NF: Floats, second_NF: Floats) -> dict[str, float]:
    """How much vectors of the same epochs differ between the first and second half of a window.

    Returns:
        cosine: median over epochs, both centred on the mean of all vectors.
        cosine_own_mean: each half centred on its own mean: what a constant per half leaves.
        half_explains: share of the variance of all vectors that the half explains.
    """
    both_NF = np.concatenate([first_NF, second_NF])
    half_N = np.repeat([0, 1], len(first_NF))
    mean_F = both_NF.mean(0)
    return {
        "cosine": median_cosine(first_NF - mean_F, second_NF - mean_F),
        "cosine_own_mean": median_cosine(
            first_NF - first_NF.mean(0), second_NF - second_NF.mean(0)
        ),
        "half_explains": explained_by(half_N, both_NF),
    }


def median_cosine(a_NF: Floats, b_NF: Floats) -> float:
    """Median over rows."""
    lengths_N = np.linalg.norm(a_NF, axis=1) * np.linalg.norm(b_NF, axis=1)
    return float(np.median((a_NF * b_NF).sum(1) / np.maximum(lengths_N, 1e-12)))


def modality_cosine(z_SND: Tensor) -> float:
    """Mean cosine of the same slot between two modalities, each centred on its own mean."""
    unit_SND = functional.normalize(z_SND - z_SND.mean(1, keepdim=True), dim=-1)
    cosine_SS = torch.einsum("snd,rnd->sr", unit_SND, unit_SND) / z_SND.shape[1]
    num_streams = len(z_SND)
    off_diagonal = cosine_SS.sum() - cosine_SS.diagonal().sum()
    return float(off_diagonal / (num_streams * (num_streams - 1)))


def retrieval(anchor_ND: Tensor, key_ND: Tensor, target_N: Sequence[int] | Tensor) -> float:
    """Fraction of anchors whose nearest key by cosine is the target."""
    similarity_NN = functional.normalize(anchor_ND, dim=-1) @ functional.normalize(key_ND, dim=-1).T
    return float((similarity_NN.argmax(1) == torch.as_tensor(target_N)).double().mean())


@torch.inference_mode()
def heard_from_others(
    embed: Callable[[Tensor, Tensor], Tensor], signal_SBT: Tensor, valid_SB: Tensor
) -> float:
    """How far a stream's vectors move when only the other streams' signals change.

    In turn each stream keeps its signal while the others take that of the next window; the squared
    change of its vectors, over that of its own changing with them. 0 hears no other stream.

    Args:
        embed: (signals, which are there) -> vectors [S, B, ...].
        signal_SBT: signals of unlike windows.
        valid_SB: which are there.
    """
    clean = embed(signal_SBT, valid_SB)
    next_SBT, next_SB = signal_SBT.roll(-1, dims=1), valid_SB.roll(-1, dims=1)
    shares = []
    for stream in range(len(signal_SBT)):
        mixed_SBT, mixed_SB = next_SBT.clone(), next_SB.clone()
        mixed_SBT[stream], mixed_SB[stream] = signal_SBT[stream], valid_SB[stream]
        by_others = (embed(mixed_SBT, mixed_SB) - clean)[stream].square().sum()
        by_all = (clean.roll(-1, dims=1) - clean)[stream].square().sum()
        shares.append(float(by_others / by_all))
    return float(np.mean(shares))
