# Copyright 2026 rgbx_seg_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The classes of a score: those of the model, or those that model and data set have in common."""

import numpy as np
from rgbx_seg_ros.cards.labels import LabelClass, LabelSet, UNLABELED
from rgbx_seg_ros.errors import DataError

REST = 'rest'
"""The name of all classes together that one of both lacks."""


class ScoredClasses:
    """
    The classes `labels` of a score, and which of them those of a data set and of a model are.

    By itself they are the model's, and the data set's with the same ids.
    """

    def __init__(self, model: LabelSet):
        self.labels = model
        self._of_data = self._of_model = None

    @classmethod
    def common(cls, data: LabelSet | None, model: LabelSet) -> 'ScoredClasses':
        """
        Return those with the same name in both, behind one for all others, in the data's order.

        Raise DataError for a data set whose classes are not known, and where none is in common.
        """
        if data is None:
            raise DataError('the data set does not tell the names of its classes, and so none is '
                            'in common with the model: write them into its dataset.yaml')
        names = [name for name in data.names if name in model.names]
        if not names:
            raise DataError('no class has the same name in the data set '
                            f'({", ".join(data.names)}) and in the model '
                            f'({", ".join(model.names)})')
        self = cls(LabelSet([LabelClass(0, REST, (0, 0, 0)), *(
            LabelClass(i + 1, name, model[model.names.index(name)].color)
            for i, name in enumerate(names))]))
        self._of_data, self._of_model = self._table(data), self._table(model)
        return self

    def _table(self, theirs):
        """Return the id of the score for each of `theirs`; one too high for what is no class."""
        table = np.full(256, len(self.labels), np.uint8)
        for label in theirs:
            table[label.id] = (self.labels.names.index(label.name)
                               if label.name in self.labels.names[1:] else 0)
        table[UNLABELED] = UNLABELED
        return table

    def of_data(self, label: np.ndarray) -> np.ndarray:
        """Return the ids (H, W) uint8 of the score for those of the data set."""
        return label if self._of_data is None else self._of_data[label]

    def of_model(self, mask: np.ndarray) -> np.ndarray:
        """Return the ids (H, W) uint8 of the score for those of the model."""
        return mask if self._of_model is None else self._of_model[mask]
