"""Bundle adjustment where it is fastest: small problems on the CPU, large ones on the GPU."""

from __future__ import annotations

from unposed.optim.arrays import Array
from unposed.optim.bundle.adjust import adjust_bundle
from unposed.optim.bundle.pose_priors import DepthPriors, PosePriors
from unposed.optim.bundle.problem import Bundle, BundleOptions, BundleSummary, IntrinsicsPrior


def adjust_on_device(
    device: str,
    min_observations: int,
    bundle: Bundle,
    options: BundleOptions,
    prior: IntrinsicsPrior | None,
    sigma: Array | None,
    pose_priors: PosePriors | None,
    depth_priors: DepthPriors | None,
) -> tuple[Bundle, BundleSummary]:
    """Adjust a bundle on a device of torch, or on the CPU where it has fewer observations than given."""
    if len(bundle.xy) < min_observations:
        return adjust_bundle(bundle, options, prior, sigma, pose_priors, depth_priors)
    from unposed.optim.bundle.adjust_torch import adjust_by_torch  # torch takes a second to import

    return adjust_by_torch(device, bundle, options, prior, sigma, pose_priors, depth_priors)
