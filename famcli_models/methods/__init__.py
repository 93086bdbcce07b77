"""The methods by name: the one table that everything reads which has to know them."""

from collections.abc import MutableMapping

from famcli_models.methods.acol import ACoL
from famcli_models.methods.adl import ADL
from famcli_models.methods.bas import BAS
from famcli_models.methods.cam import CAM
from famcli_models.methods.cutmix import CutMix
from famcli_models.methods.danet import DANet
from famcli_models.methods.ddt import DDT
from famcli_models.methods.eil import EIL
from famcli_models.methods.fam import FAM
from famcli_models.methods.gcnet import GCNet
from famcli_models.methods.has import HaS
from famcli_models.methods.i2c import I2C
from famcli_models.methods.method import Method
from famcli_models.methods.psol import PSOL
from famcli_models.methods.rcam import RCAM
from famcli_models.methods.spg import SPG

METHODS: MutableMapping[str, type[Method]] = {
    "fam": FAM,
    "cam": CAM,
    "has": HaS,
    "cutmix": CutMix,
    "adl": ADL,
    "acol": ACoL,
    "eil": EIL,
    "rcam": RCAM,
    "bas": BAS,
    "i2c": I2C,
    "ddt": DDT,
    "psol": PSOL,
    "gcnet": GCNet,
    "spg": SPG,
    "danet": DANet,
}
