import numpy as np
import pytest

from spikelfp import nn, rules
from spikelfp.errors import UnknownNameError
from spikelfp.registry import check_name


@pytest.mark.parametrize(("name", "near"), [("nmnist", "NMNIST"), ("Shd", "SHD"), ("NMNSIT", "NMNIST")])
def test_the_nearest_name_is_suggested(name, near):
    with pytest.raises(
        UnknownNameError, match=rf"^unknown thing '{name}': did you mean '{near}'\? choose from NMNIST, "
    ):
        check_name("thing", name, ["SHD", "NMNIST"])


def test_truth_values_of_numpy_become_those_of_python():
    rule = rules.Epsilon(constant_statistics=np.False_)
    assert rule.constant_statistics is False
    assert nn.Linear(3, 2, np.False_).bias is None
    assert nn.LIF(learn_beta=np.True_).learn_beta is True
