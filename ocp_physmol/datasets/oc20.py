"""OC20 where the configs look for it: ocp-physmol data oc20 --help

Downloads an archive, converts it with fairchem's own functions, with adsorption energies and
without edges, and adds the metadata.npz by which work is balanced over ranks.
"""

import argparse
import lzma
import os
import shutil
import subprocess
from pathlib import Path

import click
import lmdb
from fairchem.core.scripts import download_data, make_lmdb_sizes, preprocess_ef, uncompress

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError

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


# what a damaged archive or a full disk leads to; anything else is a bug, and keeps its traceback
DAMAGE = (
    OSError, EOFError, lzma.LZMAError, lmdb.Error, AssertionError, RuntimeError, ValueError,
    IndexError, KeyError,
)  # fmt: skip


def make(task: str, splits: list[str], data_path: Path, num_workers: int, keep: bool) -> None:
    """Put the data of a task into `data_path`; the options are those of the command."""
    for split in ["is2re"] if task == "is2re" else splits:
        there = bool(find_folders(data_path, split))
        if not there:
            prepare(split, data_path, num_workers, keep)
        folders = find_folders(data_path, split)
        for folder in folders:
            tested = folder.name.startswith("test")  # hundreds of GB to read, for one prediction
            if not tested and not (folder / "metadata.npz").exists():
                write_sizes(folder, num_workers)
        print(f"{split} is {'already ' * there}in {os.path.commonpath(folders)}", flush=True)


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
    if archive != given:
        download(ADDRESSES[split], work)
    try:
        if run("tar", "-xvf", archive, "-C", work):
            raise OSError("tar cannot unpack it")
        converted = convert(split, work / archive.name.split(".")[0], work, num_workers)
        folders = find_folders(converted, split)
        if not folders:
            raise FileNotFoundError("no *.lmdb file in it")
    except UserError:
        raise
    except DAMAGE as e:
        raise UserError(
            f"{archive} could not be prepared ({type(e).__name__}: {e}); make room if the disk is "
            "full, else remove this archive, for it is damaged, and run the command again"
        ) from e
    for folder in folders:
        target = data_path / folder.relative_to(converted)
        target.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(target)
    if not keep:
        shutil.rmtree(work)


def download(address: str, folder: Path) -> None:
    """Download an archive, or what is missing of it."""
    status = run("wget", address, "-P", folder, "--continue")
    if status:
        raise UserError(
            f"{address} could not be downloaded (wget's status is {status}); check the network, "
            f"or download it by hand and put it in {folder.parent}"
        )


def run(program: str, *arguments: str | Path) -> int:
    """Run a program and return its exit status."""
    if shutil.which(program) is None:
        raise UserError(f"the program {program} is not on PATH; install it")
    return subprocess.call([program, *map(str, arguments)])


def convert(split: str, unpacked: Path, work: Path, num_workers: int) -> Path:
    """Convert what was in the archive of a split; return the folder that `find_folders` takes."""
    if split == "is2re":
        return unpacked / "data"
    if split == "test":
        return unpacked / "test_data"
    frames = unpacked.with_name(f"{unpacked.name}_uncompressed")
    output = work / "s2ef" / (f"all/{split}" if split.startswith("val") else f"{split}/train")
    uncompress.main(
        argparse.Namespace(
            ipdir=str(unpacked / unpacked.name), opdir=str(frames), num_workers=num_workers
        )
    )
    preprocess_ef.main(
        argparse.Namespace(
            data_path=str(frames), out_path=str(output), num_workers=num_workers, ref_energy=True,
            test_data=False, get_edges=False,
        )
    )  # fmt: skip
    download_data.verify_count(str(output), "s2ef", split)
    return work


def write_sizes(folder: Path, num_workers: int) -> None:
    """Write metadata.npz, where fairchem's load balancing finds `natoms`.

    Raises:
        UserError: if a file is truncated.
    """
    PhysMolLmdbDataset({"src": str(folder)})  # workers that read a truncated file die silently
    args = argparse.Namespace(data_path=str(folder), num_workers=num_workers)
    make_lmdb_sizes.make_lmdb_sizes(args)


@click.command(context_settings={"show_default": True})
@click.argument("task", type=click.Choice(["s2ef", "is2re"]))
@click.option(
    "--split", multiple=True, type=click.Choice(list(S2EF)), default=("200k", "val_id"),
    help="of s2ef; give it several times for several splits",
)  # fmt: skip
@click.option("--data-path", type=click.Path(path_type=Path), default="data", help="folder")
@click.option(
    "--num-workers", type=click.IntRange(1), default=lambda: len(os.sched_getaffinity(0)),
    show_default="as many as cores",
    help="processes, each of which writes a file of an s2ef split",
)  # fmt: skip
@click.option(
    "--keep", is_flag=True,
    help="keep the downloaded archive and what is unpacked of it, in DATA_PATH/oc20_SPLIT",
)  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context, task: str, split: tuple[str, ...], data_path: Path, num_workers: int,
    keep: bool,
) -> None:  # fmt: skip
    """Download OC20's data for TASK and convert them to the folders that the configs name.

    What is there already is skipped. A download that broke off is continued. An archive that lies
    in DATA_PATH under its own name is used, and stays there.

    \b
    Size of the archive, and of what is in it, by fairchem's documentation:
      s2ef   200k 344M, 1.7G;  2M 3.4G, 17G;  20M 34G, 165G;  all 225G, 1.1T;
             rattled 29G, 136G;  md 42G, 306G;  each val_* at most 1.9G, 9.5G;
             test 30G, 415G
      is2re  8.1G, 97G, all its splits
    """
    given = ctx.get_parameter_source("split") is not click.core.ParameterSource.DEFAULT
    if task == "is2re" and given:
        raise UserError("--split is of s2ef; is2re comes with all its splits, so leave it out")
    make(task, list(split), data_path, num_workers, keep)
