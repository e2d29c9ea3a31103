"""Tasks that networks are trained for, by name in :data:`tasks`.

===================  ==================================  ==========================================================
``classification``   :class:`Classification`             one class for each sample ``[B]``; accuracy
``regression``       :class:`Regression`                 real values ``[B, K]``; RMSE, MAE, R²
``multi-label``      :class:`MultiLabel`                 0 or 1 for each of ``K`` labels ``[B, K]``; subset accuracy, F1
``sequence-labels``  :class:`SequenceLabels`             a class at every step ``[B, T]``; accuracy of steps
a user's own         :class:`Task`, or :class:`ReadOut`  registered under a name: ``@tasks.register("mine")``
===================  ==================================  ==========================================================
"""

from spikelfp.registry import check_constructors, public_names
from spikelfp.tasks.base import FORGETS, READOUTS, Judge, ReadOut, Task, TaskReward, tasks
from spikelfp.tasks.classification import Classification
from spikelfp.tasks.multi_label import MultiLabel
from spikelfp.tasks.regression import Regression
from spikelfp.tasks.sequence_labels import SequenceLabels

__all__ = [
    "FORGETS",
    "READOUTS",
    "Classification",
    "Judge",
    "MultiLabel",
    "ReadOut",
    "Regression",
    "SequenceLabels",
    "Task",
    "TaskReward",
    "tasks",
]

check_constructors(Classification, MultiLabel, Regression, SequenceLabels, TaskReward)
public_names(globals())
