"""Networks: observation -> output of each head, as modules and as fast functions on numpy arrays.

The modules are imported when somebody asks for one, `networks.Dropout(...)`: a subclass of `nn.Module` needs torch, a
config does not.
"""

from typing import TYPE_CHECKING

from rlrun.lazy import face

if TYPE_CHECKING:
    from rlrun.networks.bayesian import BayesianNetwork
    from rlrun.networks.builder import NetworkBuilder, NetworkConfig, encoder
    from rlrun.networks.cells import Gru, Lstm, RecurrentNetwork, Torso
    from rlrun.networks.conv import NATURE_SIDE, can_be_read, channels_innermost, convolutional, is_picture
    from rlrun.networks.critics import Critics, build_critics
    from rlrun.networks.dropout import Dropout, DropoutInference
    from rlrun.networks.ensemble import Ensemble
    from rlrun.networks.heads import build_head
    from rlrun.networks.inference import Inference
    from rlrun.networks.layers import Field, Flat, Joined, OfField, OneHot, OneHots, Scaled
    from rlrun.networks.nets import Nets
    from rlrun.networks.network import Network, chain
    from rlrun.networks.norms import BatchNorm, RunningNorm, batch_statistics, gather, unit_rows
    from rlrun.networks.own import Own, own_torso
    from rlrun.networks.own_critics import OwnCritics
    from rlrun.networks.residual import residuals
    from rlrun.networks.streams import build_streams, in_streams, outputs
    from rlrun.networks.target import TargetNet
    from rlrun.networks.torsos import mlp
    from rlrun.networks.unroll import unrolled

HOME = {
    "NATURE_SIDE": "conv",
    "BatchNorm": "norms",
    "BayesianNetwork": "bayesian",
    "Critics": "critics",
    "Dropout": "dropout",
    "DropoutInference": "dropout",
    "Ensemble": "ensemble",
    "Field": "layers",
    "Flat": "layers",
    "Gru": "cells",
    "Inference": "inference",
    "Joined": "layers",
    "Lstm": "cells",
    "Nets": "nets",
    "Network": "network",
    "NetworkBuilder": "builder",
    "NetworkConfig": "builder",
    "OfField": "layers",
    "OneHot": "layers",
    "OneHots": "layers",
    "Own": "own",
    "OwnCritics": "own_critics",
    "RecurrentNetwork": "cells",
    "RunningNorm": "norms",
    "Scaled": "layers",
    "TargetNet": "target",
    "Torso": "cells",
    "batch_statistics": "norms",
    "build_critics": "critics",
    "build_head": "heads",
    "build_streams": "streams",
    "can_be_read": "conv",
    "channels_innermost": "conv",
    "chain": "network",
    "convolutional": "conv",
    "encoder": "builder",
    "gather": "norms",
    "in_streams": "streams",
    "is_picture": "conv",
    "mlp": "torsos",
    "outputs": "streams",
    "own_torso": "own",
    "residuals": "residual",
    "unit_rows": "norms",
    "unrolled": "unroll",
}

__all__ = [
    "NATURE_SIDE",
    "BatchNorm",
    "BayesianNetwork",
    "Critics",
    "Dropout",
    "DropoutInference",
    "Ensemble",
    "Field",
    "Flat",
    "Gru",
    "Inference",
    "Joined",
    "Lstm",
    "Nets",
    "Network",
    "NetworkBuilder",
    "NetworkConfig",
    "OfField",
    "OneHot",
    "OneHots",
    "Own",
    "OwnCritics",
    "RecurrentNetwork",
    "RunningNorm",
    "Scaled",
    "TargetNet",
    "Torso",
    "batch_statistics",
    "build_critics",
    "build_head",
    "build_streams",
    "can_be_read",
    "chain",
    "channels_innermost",
    "convolutional",
    "encoder",
    "gather",
    "in_streams",
    "is_picture",
    "mlp",
    "outputs",
    "own_torso",
    "residuals",
    "unit_rows",
    "unrolled",
]

__getattr__, __dir__ = face(__name__, HOME)
