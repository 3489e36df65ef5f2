"""Read the reference networks of the released LS4 code into ours."""

from pathlib import Path

import numpy as np
import torch

from ls4.blocks import GaussianNetwork, Network

HERE = Path(__file__).parent

RENAMED = [  # released name -> ours, in this order
    ("encoder", "lift"),
    ("linear.weight", "readout.weight"),
    ("linear.bias", "readout.bias"),
    ("backbone.norm", "norm"),
    ("kernel.kernel.", "ssm."),
    ("inv_w_real", "log_A_real"),
    ("w_imag", "A_imag"),
    ("output_linear.0", "linear"),
    (".D", ".ssm.D"),
    (".layer.ff.0.0", ".f.0"),
    (".layer.ff.2", ".f.2"),
    (".layer.", ".f."),
]


def _name(released: str, pooled: bool) -> str:
    head, _, rest = released.partition(".")
    if head == "backbone" and not rest.startswith("norm"):
        kind, i, rest = rest.split(".", 2)
        assert i == "0" or kind == "c_layers", "one level of pooling at the most"
        if kind == "c_layers":
            released = f"level.{'coarse.' if pooled else ''}pairs.{i}.{rest}"
        elif kind == "d_layers":
            return f"level.down.{rest.removeprefix('linear.')}"
        else:
            j, rest = rest.split(".", 1)
            if j == "0":
                return f"level.up.{rest.removeprefix('linear.')}"
            released = f"level.pairs.{int(j) - 1}.{rest}"
    for old, new in RENAMED:
        released = released.replace(old, new)
    return released


def reference_network(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """Return the network of `ls4_net_<name>.npz` and its arrays (input, outputs)."""
    with np.load(HERE / f"ls4_net_{name}.npz", allow_pickle=False) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    parameters = {k.removeprefix("param/"): v for k, v in arrays.items() if k.startswith("param/")}
    pool = {"nopool": [], "pool1": [1], "pool5": [5]}[name.split("_")[0]]
    d_in = parameters["encoder.weight"].shape[1]
    d_out = parameters["linear.weight"].shape[0]
    sizes = {"width": 8, "state": 8, "n_pairs": 1, "pool": pool, "kernel": "dplr"}
    network: torch.nn.Module
    if "mean" in arrays:
        network = GaussianNetwork(d_in, d_out, log_std_range=(-20.0, 20.0), **sizes)
    else:
        network = Network(d_in, d_out, **sizes)
    prefix = "network." if "mean" in arrays else ""
    state = {}
    for released, value in parameters.items():
        ours = _name(released, bool(pool))
        if not ours.startswith(("mean.", "log_std.")):
            ours = prefix + ours
        state[ours] = value.reshape(network.state_dict()[ours].shape)
    network.load_state_dict(state)
    return network.eval(), arrays
