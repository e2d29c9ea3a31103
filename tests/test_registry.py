import pytest

from spikelfp.errors import UnknownNameError
from spikelfp.registry import check_name


@pytest.mark.parametrize(("name", "near"), [("nmnist", "NMNIST"), ("Shd", "SHD"), ("NMNSIT", "NMNIST")])
def test_the_nearest_name_is_suggested(name, near):
    with pytest.raises(
        UnknownNameError, match=rf"^unknown thing '{name}': did you mean '{near}'\? choose from NMNIST, "
    ):
        check_name("thing", name, ["SHD", "NMNIST"])
