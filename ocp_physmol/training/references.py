"""References of the elements to what an untrained model leaves of the labels."""

from collections.abc import Callable

import numpy as np
import torch
from fairchem.core.common import distutils
from fairchem.core.modules.normalization.element_references import LinearReferences
from torch_geometric.data import Batch

from ocp_physmol.model.elements import composition

SAMPLE = 256  # structures; compositions of a data set are far fewer than its frames
RARE = 8  # more structures, of an element that is in none of these
RCOND = 1e-3  # combinations of elements that hardly occur are left alone


def subtract_untrained(trainer, predict: Callable[[Batch], dict]) -> None:
    """Subtract what a model predicts before training, as a sum over atoms, from the references.

    The references of "energy" are then those of the labels less the model's own energies: wherever
    a pair energy or random weights begin, the training begins at the labels. Where the config has
    references, each element gets a value of its own; where it has none, all get the same, so that
    it also holds for elements that are not in the data. Forces do not change. Checkpoints hold the
    references, as ever in fairchem.

    Args:
        predict: from a batch to {"energy": [B]}, in units of the normalizer of `trainer`.
    """
    if "energy" not in trainer.output_targets:  # forces alone need no reference
        return
    energies: list[torch.Tensor] = []
    compositions: list[np.ndarray] = []
    trainer.model.eval()
    for indices in _sample(trainer).split(trainer.config["optim"]["batch_size"]):
        structures = [trainer.train_dataset[int(i)] for i in indices]
        compositions += map(composition, structures)
        with torch.no_grad():
            energies.append(predict(trainer.collater(structures))["energy"].flatten().double())
    scale = trainer.normalizers["energy"].rmsd if "energy" in trainer.normalizers else 1.0
    atoms, energy = np.array(compositions), (torch.cat(energies) * scale).cpu().numpy()
    if "energy" not in trainer.elementrefs:
        atoms = atoms.sum(axis=1, keepdims=True)
        trainer.elementrefs["energy"] = LinearReferences().to(trainer.device)
    untrained = torch.from_numpy(np.linalg.lstsq(atoms, energy, rcond=RCOND)[0])
    references = trainer.elementrefs["energy"].element_references
    references -= untrained[: len(references)].to(references)
    distutils.broadcast(references, src=0)


def _sample(trainer) -> torch.Tensor:
    """Indices of random structures, in which is every element that has a reference."""
    data = trainer.train_dataset
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    chosen = order[:SAMPLE].tolist()
    if "energy" in trainer.elementrefs:
        known = trainer.elementrefs["energy"].element_references.nonzero().flatten().tolist()
        present = np.sum([composition(data[index]) for index in chosen], axis=0).nonzero()[0]
        lacking = dict.fromkeys(set(known) - set(present.tolist()), RARE)
        for index in order[SAMPLE:].tolist():
            if not lacking:
                break
            found = lacking.keys() & set(data[index].atomic_numbers.tolist())
            chosen += [index] if found else []
            lacking = {z: left - (z in found) for z, left in lacking.items() if left > (z in found)}
    return torch.tensor(chosen)
