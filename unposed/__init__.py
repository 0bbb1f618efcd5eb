"""A folder of unordered, uncalibrated photos goes in; cameras and 3D points come out.

    rec = unposed.reconstruct("photos/", "result/")
    rec.models[0].cam_from_world, rec.models[0].points

Names are imported when first used, so that `import unposed` costs nothing.
"""

from typing import TYPE_CHECKING

from .lazy_names import lazy_names

__version__ = "0.1.0"

_NAMES = {
    "Bars": "unposed.pipeline.progress",
    "Cancellation": "unposed.pipeline.cancel",
    "Evaluation": "unposed.evaluation",
    "Finding": "unposed.linting.finding",
    "JsonLines": "unposed.pipeline.progress",
    "JudgedModel": "unposed.judging",
    "Localization": "unposed.localization.result",
    "Localizer": "unposed.localization.localizer",
    "Model": "unposed.model",
    "Pair": "unposed.two_view.pair",
    "PhotoCheck": "unposed.photo_check",
    "PairTable": "unposed.view_graph.pair_table",
    "Progress": "unposed.pipeline.progress",
    "Reconstruction": "unposed.reconstruction",
    "RunOptions": "unposed.options",
    "accept_weights": "unposed.installed",
    "DenseModel": "unposed.dense_points",
    "add": "unposed.growth.add",
    "align": "unposed.alignment.align",
    "check": "unposed.photo_check",
    "demo": "unposed.runs",
    "dense": "unposed.dense_points",
    "doctor": "unposed.diagnosis",
    "evaluate": "unposed.evaluation",
    "export": "unposed.exporting",
    "get_weights": "unposed.installed",
    "judge": "unposed.judging",
    "lint": "unposed.linting.lint",
    "list_plugins": "unposed.installed",
    "list_presets": "unposed.installed",
    "list_weights": "unposed.installed",
    "missing_weights": "unposed.installed",
    "load": "unposed.loading",
    "localize": "unposed.localization.localize",
    "new_plugin": "unposed.installed",
    "merge": "unposed.growth.merge",
    "open_cache": "unposed.installed",
    "pairs": "unposed.view_graph.pairs",
    "pairwise": "unposed.two_view.pairwise",
    "reconstruct": "unposed.runs",
    "Splat": "unposed.splatting",
    "show_plugin": "unposed.installed",
    "show_preset": "unposed.installed",
    "splat": "unposed.splatting",
    "view": "unposed.viewing",
}
"""Every public name and the module that defines it; the imports below repeat it for type checkers, and a test keeps
the two alike. `unposed.errors` and `unposed.algorithms` are modules."""

__getattr__, __dir__, __all__ = lazy_names(__name__, _NAMES, modules=("algorithms", "errors"))

if TYPE_CHECKING:
    from unposed.pipeline.cancel import Cancellation as Cancellation
    from unposed.pipeline.progress import Bars as Bars, JsonLines as JsonLines, Progress as Progress

    from . import algorithms as algorithms, errors as errors
    from .alignment.align import align as align
    from .dense_points import DenseModel as DenseModel, dense as dense
    from .diagnosis import doctor as doctor
    from .evaluation import Evaluation as Evaluation, evaluate as evaluate
    from .exporting import export as export
    from .growth.add import add as add
    from .growth.merge import merge as merge
    from .installed import (
        accept_weights as accept_weights,
        get_weights as get_weights,
        list_plugins as list_plugins,
        list_presets as list_presets,
        list_weights as list_weights,
        missing_weights as missing_weights,
        new_plugin as new_plugin,
        open_cache as open_cache,
        show_plugin as show_plugin,
        show_preset as show_preset,
    )
    from .judging import JudgedModel as JudgedModel, judge as judge
    from .linting.finding import Finding as Finding
    from .linting.lint import lint as lint
    from .loading import load as load
    from .localization.localize import localize as localize
    from .localization.localizer import Localizer as Localizer
    from .localization.result import Localization as Localization
    from .model import Model as Model
    from .options import RunOptions as RunOptions
    from .photo_check import PhotoCheck as PhotoCheck, check as check
    from .reconstruction import Reconstruction as Reconstruction
    from .runs import demo as demo, reconstruct as reconstruct
    from .splatting import Splat as Splat, splat as splat
    from .two_view.pair import Pair as Pair
    from .two_view.pairwise import pairwise as pairwise
    from .view_graph.pair_table import PairTable as PairTable
    from .view_graph.pairs import pairs as pairs
    from .viewing import view as view
