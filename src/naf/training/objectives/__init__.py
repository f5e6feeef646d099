"""Training objectives of the peers, one file a method, and that of restorers.

What a step draws, all images of the batch share: a step is the same however the batch is split over processes.
"""

from naf.training.objectives.anyup import AnyUpObjective
from naf.training.objectives.featup import FeatUpObjective
from naf.training.objectives.jafar import JAFARObjective
from naf.training.objectives.lift import LiFTObjective
from naf.training.objectives.loftup import LoftUpObjective
from naf.training.objectives.restoration import RestorationObjective

__all__ = [
    "AnyUpObjective",
    "FeatUpObjective",
    "JAFARObjective",
    "LiFTObjective",
    "LoftUpObjective",
    "RestorationObjective",
]
