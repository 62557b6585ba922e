"""A run's state between epochs: everything that a killed run needs to go on as if nothing had happened.

One safetensors file, replaced in one step; no pickle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from model.durable import replacing
from model.methods.protocol import Network, Objective

NETWORK, OBJECTIVE, OPTIMISER, BEST = "network.", "objective.", "optimiser.", "best."


@dataclass
class Progress:
    """Where a run stands."""

    epoch: int = 0  # finished epochs
    best_epoch: int = 0  # 0: none validated yet
    best_score: float = -1.0  # validation mAP of the best epoch
    seconds: float = 0.0  # of all epochs, validation counted


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The parts of a run that change; ``best`` holds the network of the best epoch so far."""

    network: Network
    objective: Objective
    optimiser: Optimizer
    progress: Progress
    best: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Write the state, replacing the previous one in one step.

        What the best network and the present one have in common, all that is frozen among it, is written once.
        """
        network = {name: value.cpu() for name, value in self.network.state_dict().items()}
        best = {name: value.cpu() for name, value in self.best.items()}
        tensors = {f"{NETWORK}{name}": value for name, value in network.items()}
        tensors |= {f"{OBJECTIVE}{name}": value for name, value in self.objective.state_dict().items()}
        tensors |= {f"{BEST}{name}": value for name, value in best.items() if not value.equal(network[name])}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"{OPTIMISER}{index}.{name}": value for name, value in state.items()}
        write_tensors(path, tensors, {"progress": json.dumps(vars(self.progress))})

    def load(self, path: Path) -> None:
        """Continue from a saved state."""
        tensors, metadata = read_tensors(path)
        network = _with_prefix(tensors, NETWORK)
        self.network.load_state_dict(network)
        self.objective.load_state_dict(_with_prefix(tensors, OBJECTIVE))
        self.best.update(network | _with_prefix(tensors, BEST))
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in _with_prefix(tensors, OPTIMISER).items():
            index, _, key = name.partition(".")
            states.setdefault(int(index), {})[key] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": states, "param_groups": groups})
        vars(self.progress).update(json.loads(metadata["progress"]))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file durably."""
    with replacing(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
