"""OC20 where the configs look for it: python -m ocp_physmol.datasets.oc20 s2ef --split 200k val_id

Runs fairchem's own download script, with adsorption energies and without edges, and adds the
metadata.npz that balance work over ranks. What is there already is skipped; a download that broke
off is continued; an archive that lies in DATA_PATH under its own name is used, and stays there.

Archives and what is in them, by fairchem's documentation:
  s2ef   200k 344M, 1.7G;  2M 3.4G, 17G;  20M 34G, 165G;  all 225G, 1.1T;  rattled 29G, 136G;
         md 42G, 306G;  each val_* at most 1.9G, 9.5G;  test 30G, 415G
  is2re  8.1G, 97G
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

from fairchem.core.scripts import download_data, make_lmdb_sizes

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError, exit_on_user_error

S2EF = download_data.DOWNLOAD_LINKS_s2ef["s2ef"]
ADDRESSES = {**S2EF, **download_data.DOWNLOAD_LINKS_is2re}  # of archives; all of IS2RE is one


def find_folders(root: Path, split: str) -> list[Path]:
    """The folders below `root` that hold LMDBs of what is in one archive."""
    if split == "is2re":
        pattern = "is2re/*/*"
    elif split == "test":
        pattern = "s2ef/all/test_*"
    elif split.startswith("val"):
        pattern = f"s2ef/all/{split}"
    else:
        pattern = f"s2ef/{split}/train"
    return sorted({path.parent for path in root.glob(f"{pattern}/*.lmdb")})


def prepare(split: str, data_path: Path, num_workers: int, keep: bool = False) -> None:
    """Download and convert; the folders get to their places in `data_path` when all is complete.

    Raises:
        UserError: if the download fails, the archive is damaged or a program is missing.
    """
    work = data_path / f"oc20_{split}"
    given = data_path / Path(ADDRESSES[split]).name
    archive = given if given.exists() else work / given.name
    work.mkdir(parents=True, exist_ok=True)
    for path in work.iterdir():  # what an earlier attempt left, but for the archive
        if path.is_dir():
            shutil.rmtree(path)
    (work / "s2ef/all").mkdir(parents=True)  # the script moves the test splits there
    try:
        run_script(split, work, archive, num_workers)
        folders = find_folders(work, split)
        if not folders:
            raise FileNotFoundError("no *.lmdb file in it")
    except UserError:
        raise
    except Exception as e:  # whatever the script and its workers stumble over
        raise UserError(
            f"{archive} could not be prepared ({type(e).__name__}: {e}); make room if the disk is "
            "full, else remove this archive, for it is damaged, and run the command again"
        ) from e
    for folder in folders:
        target = data_path / folder.relative_to(work)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
    if not keep:
        shutil.rmtree(work)


def run_script(split: str, work: Path, archive: Path, num_workers: int) -> None:
    """Call the script's `get_data` with what it takes from a process of its own.

    It imports its neighbours by their bare names, and they read options from `sys.argv`.
    """
    task = "is2re" if split == "is2re" else "s2ef"
    path = [str(Path(download_data.__file__).parent), *sys.path]
    argv = ["download_data.py", "--num-workers", str(num_workers), "--ref-energy"]
    system = partial(run_command, address=ADDRESSES[split], work=work, archive=archive)
    with patch("sys.path", path), patch("sys.argv", argv), patch("os.system", system):
        download_data.get_data(str(work), task, split, del_intmd_files=False)


def run_command(command: str, address: str, work: Path, archive: Path) -> None:
    """Run one of the script's commands, after which it would go on whatever became of them.

    Paths get quoted; wget is left out if `archive` is not to be downloaded to `work`, and tar
    reads it from where it is.
    """
    program = command.split()[0]
    if program == "wget":
        if archive.parent != work:
            return
        command += " --continue"
    if shutil.which(program) is None:
        raise UserError(f"the program {program} is not on PATH; install it")
    folder = shlex.quote(str(work))
    command = command.replace(str(work), folder)
    command = command.replace(f"{folder}/{archive.name}", shlex.quote(str(archive)))
    status = subprocess.call(command, shell=True)
    if status and program == "wget":
        raise UserError(
            f"{address} could not be downloaded (wget's status is {status}); check the network, "
            f"or download it by hand and put it in {work.parent}"
        )
    if status:
        raise OSError(f"the status of {program} is {status}")


def write_sizes(folder: Path, num_workers: int) -> None:
    """Write metadata.npz, where fairchem's load balancing finds `natoms`.

    Raises:
        UserError: if a file is truncated.
    """
    PhysMolLmdbDataset({"src": str(folder)})  # workers that read a truncated file die silently
    args = argparse.Namespace(data_path=str(folder), num_workers=num_workers)
    make_lmdb_sizes.make_lmdb_sizes(args)


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Command line of the download."""
    parser = argparse.ArgumentParser(
        prog="python -m ocp_physmol.datasets.oc20",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", choices=("s2ef", "is2re"), help="whose data; is2re has all splits")
    parser.add_argument(
        "--split", nargs="+", choices=list(S2EF), metavar="SPLIT",
        help=f"of s2ef, one or several of {', '.join(S2EF)} (200k val_id)",
    )  # fmt: skip
    parser.add_argument("--data-path", type=Path, default=Path("data"), help="folder (data)")
    parser.add_argument(
        "--num-workers", type=int, default=len(os.sched_getaffinity(0)),
        help="processes, each of which writes a file of an s2ef split (as many as cores)",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true",
        help="keep the downloaded archive and what is unpacked of it, in DATA_PATH/oc20_SPLIT",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if args.num_workers < 1:
        raise UserError(f"--num-workers {args.num_workers} is not possible; it must be at least 1")
    if args.task == "is2re" and args.split:
        raise UserError("--split is of s2ef; is2re comes with all its splits, so leave it out")

    for split in ["is2re"] if args.task == "is2re" else args.split or ["200k", "val_id"]:
        there = bool(find_folders(args.data_path, split))
        if not there:
            prepare(split, args.data_path, args.num_workers, args.keep)
        folders = find_folders(args.data_path, split)
        for folder in folders:
            tested = folder.name.startswith("test")  # hundreds of GB to read, for one prediction
            if not tested and not (folder / "metadata.npz").exists():
                write_sizes(folder, args.num_workers)
        print(f"{split} is {'already ' * there}in {os.path.commonpath(folders)}", flush=True)


if __name__ == "__main__":
    main()
