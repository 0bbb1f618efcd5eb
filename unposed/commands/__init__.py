"""One function per command of the command line: call the Python API, print its result."""

from .growing import add as add, align as align, localize as localize, merge as merge
from .installing import (
    cache as cache,
    completion as completion,
    doctor as doctor,
    plugins as plugins,
    presets as presets,
    weights as weights,
)
from .running import check as check, demo as demo, pairs as pairs, pairwise as pairwise, reconstruct as reconstruct
from .using import (
    dense as dense,
    eval as eval,
    export as export,
    judge as judge,
    lint as lint,
    splat as splat,
    view as view,
)
