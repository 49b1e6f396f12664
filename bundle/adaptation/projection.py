"""Site directions projected out: features in which no linear model tells the sites of those it was fitted on apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bundle.adaptation.shrinkage import ledoit_wolf

Array = NDArray[np.float64]
RANK = 1e-10  # of the largest eigenvalue, below which sites do not differ in a direction


def without_site_directions(products: Array, people: Array, sites: NDArray, width: int) -> Array:
    """Weights of all scans' features that give them without the discriminant directions of sites.

    With M the means of sites less their mean μ, and S the covariance within sites, shrunk as `ledoit_wolf` says, the
    discriminant directions are S⁻¹Mᵀ, and

        x′ = x − (x − μ) S⁻¹Mᵀ (M S⁻¹Mᵀ)⁺ M.

    The means of all sites then coincide, and of all projections that achieve this it moves features least, as S
    measures it. The projection is the same for every scan: nothing has to be known of a scan, not even its site.

    Args:
        products: Inner products of the features of N scans.
        people: Weights of the scans' features that give those of the people who are fitted, such as means of their
            scans.
        sites: Site of each of these people; two at least.
        width: Number of features, p.

    Shape:
        products (N, N), people (k, N), sites (k,), output (N, N).

    Source:
        Linear discriminant analysis: Fisher, Annals of Eugenics 7 (1936). That the least projection takes every linear
        trace of a label away: Belrose et al., NeurIPS 2023 (LEACE).
    """
    names, codes = np.unique(sites, return_inverse=True)
    means = np.stack([people[codes == code].mean(0) for code in range(len(names))])
    centre = means.mean(0)
    apart, within = means - centre, people - means[codes]
    own = within @ products @ within.T
    scans = products - centre @ products  # inner products of each scan, less the centre, with all scans
    across, beside = scans @ apart.T, apart @ products @ within.T
    told = apart @ products @ apart.T
    shrunk = ledoit_wolf(own, width, np.trace(people @ products @ people.T))
    if shrunk.share < 1 and shrunk.variance > 0:  # S⁻¹ but for a factor, by Woodbury's identity
        penalty = shrunk.floor * len(own) / (1 - shrunk.share)
        directions = np.linalg.solve(own + penalty * np.eye(len(own)), beside.T)
        across = across - scans @ within.T @ directions
        told = told - beside @ directions
    coordinates = across @ np.linalg.pinv(told, rcond=RANK, hermitian=True)
    return np.eye(len(products)) - coordinates @ apart
