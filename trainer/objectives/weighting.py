"""How much a sample's error counts at its timestep.

Shapes: B batch. Every row of the catalogue's table is called with the signal share [B] (alphas_cumprod at each sample's
timestep), gamma and the prediction type, and returns [B].
"""

import torch
from torch import Tensor

MOST_SNR = 1000.0  # the paper's weight vanishes where there is hardly any noise; the value kohya's sd-scripts stop at


def snr(signal: Tensor) -> Tensor:
    """Signal-to-noise ratio a / (1 - a), [B] -> [B]; 0 at a zero terminal SNR."""
    return signal / (1 - signal)


def uniform_weight(signal: Tensor, gamma: float, prediction: str) -> Tensor:
    """1 at every timestep: L_simple (Ho et al. 2020, arXiv 2006.11239, eq. 14)."""
    return torch.ones_like(signal)


def min_snr_weight(signal: Tensor, gamma: float, prediction: str) -> Tensor:
    """min-SNR-gamma loss weight (Hang et al. 2023, arXiv 2303.09556, eq. 8 and section 3.4).

    min(SNR, gamma) / SNR for epsilon, min(SNR, gamma) / (SNR + 1) for v.
    """
    ratio = snr(signal)
    return ratio.clamp(max=gamma) / (ratio if prediction == "epsilon" else ratio + 1)


def soft_min_snr_weight(signal: Tensor, gamma: float, prediction: str) -> Tensor:
    """soft-min-SNR loss weight: min-SNR without its kink (Crowson et al. 2024, arXiv 2401.11605).

    The paper weighs the error of the clean picture with 1 / (sigma^2 + 1 / gamma) = SNR gamma / (SNR + gamma); an
    error of epsilon is SNR times that one, an error of v SNR + 1 times.
    """
    ratio = snr(signal)
    soft = gamma / (ratio + gamma)
    return soft if prediction == "epsilon" else soft * ratio / (ratio + 1)


def debiased_weight(signal: Tensor, gamma: float, prediction: str) -> Tensor:
    """Debiased estimation loss (Yu et al. 2023, arXiv 2310.08442): 1 / sqrt(SNR) for epsilon.

    For v, of which the paper says nothing, 1 / (SNR + 1), as kohya's sd-scripts have it.
    """
    ratio = snr(signal).clamp(max=MOST_SNR)
    return ratio.rsqrt() if prediction == "epsilon" else 1 / (ratio + 1)
