"""OC20 where the configs look for it: ocp-physmol data oc20 --help

Downloads an archive, converts it with fairchem's own functions, with adsorption energies and
without edges, and adds the metadata.npz by which work is balanced over ranks.
"""

import argparse
import lzma
import os
import shutil
import subprocess
import tarfile
import zlib
from pathlib import Path

import click
import lmdb
from fairchem.core.scripts import download_data, make_lmdb_sizes, preprocess_ef, uncompress
from tqdm import tqdm

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError, blame
from ocp_physmol.files import checksum
from ocp_physmol.option_types import COUNT, PATH
from ocp_physmol.trust import trusted

S2EF = download_data.DOWNLOAD_LINKS_s2ef["s2ef"]
ADDRESSES = {**S2EF, **download_data.DOWNLOAD_LINKS_is2re}  # of archives; all of IS2RE is one
SPLITS = ("200k", "val_id")  # that the configs of S2EF name
MD5 = {  # of the archives, as the Open Catalyst Project publishes them
    "200k": "f8d0909c2623a393148435dede7d3a46",
    "2M": "863bc983245ffc0285305a1850e19cf7",
    "20M": "953474cb93f0b08cdc523399f03f7c36",
    "all": "12a7087bfd189a06ccbec9bc7add2bcd",
    "val_id": "f57f7f5c1302637940f2cc858e789410",
    "val_ood_ads": "431ab0d7557a4639605ba8b67793f053",
    "val_ood_cat": "532d6cd1fe541a0ddb0aa0f99962b7db",
    "val_ood_both": "5731862978d80502bbf7017d68c2c729",
    "test": "bcada432482f6e87b24e14b6b744992a",
    "rattled": "40431149b27b64ce1fb40cac4e2e064b",
    "md": "9fed845aaab8fb4bf85e3a8db57796e0",
    "is2re": "cfc04dd2f87b4102ab2f607240d25fb1",
}
# patterns of the folders of LMDBs in the data folder, by archive
PLACES = {split: f"s2ef/{split}/train" for split in S2EF}
PLACES |= {split: f"s2ef/all/{split}" for split in S2EF if split.startswith("val")}
PLACES |= {"test": "s2ef/all/test_*", "is2re": "is2re/*/*"}

# what a damaged archive or a full disk leads to; anything else is a bug, and keeps its traceback
DAMAGE = (
    OSError, EOFError, lzma.LZMAError, zlib.error, tarfile.TarError, lmdb.Error, AssertionError,
    RuntimeError, ValueError, IndexError, KeyError,
)  # fmt: skip


def find_folders(root: Path, split: str) -> list[Path]:
    """The folders below `root` that hold LMDBs from one archive."""
    return sorted({path.parent for path in root.glob(f"{PLACES[split]}/*.lmdb")})


def prepare(split: str, data_path: Path, num_workers: int, keep: bool = False) -> None:
    """Put all folders of an archive in `data_path`, or none; a UserError says why none."""
    work = data_path / f"oc20_{split}"
    with blame(f"--data-path {data_path} cannot be written to", OSError):
        work.mkdir(parents=True, exist_ok=True)
        for folder in filter(Path.is_dir, work.iterdir()):  # of an attempt that broke off
            shutil.rmtree(folder)
    archive = fetch(ADDRESSES[split], data_path, work)
    require_published(archive, MD5[split])
    try:
        unpack(archive, work)
        converted = convert(split, work / archive.name.split(".")[0], work, num_workers)
        folders = find_folders(converted, split)
        if not folders:
            raise FileNotFoundError("no *.lmdb file in it")
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


def fetch(address: str, data_path: Path, work: Path) -> Path:
    """The archive of this address: the one in `data_path`, or one downloaded to `work`."""
    given = data_path / Path(address).name
    if given.exists():
        return given
    if shutil.which("wget") is None:
        raise UserError("the program wget is not on PATH; install it")
    if status := subprocess.call(["wget", address, "-P", work, "--continue"]):
        raise UserError(
            f"{address} could not be downloaded (wget's status is {status}); check the network, "
            f"or download it by hand and put it in {data_path}"
        )
    return work / given.name


def require_published(archive: Path, expected: str) -> None:
    """Raise a UserError if an archive is not, to the bit, the published one, nor trusted."""
    if not trusted() and (found := checksum(archive, "md5")) != expected:
        raise UserError(
            f"{archive} is not the published archive (its MD5 is {found}, not {expected}); remove "
            "it and run the command again, or give --trust if you trust whoever made it"
        )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into `folder`, and nowhere else: links and paths out of it are refused."""
    with tarfile.open(archive) as tar:
        for member in tqdm(tar, f"Unpacking {archive.name}", unit=" files", mininterval=1):
            tar.extract(member, folder, filter="data")


def convert(split: str, unpacked: Path, work: Path, num_workers: int) -> Path:
    """Convert an unpacked archive; return the folder that `find_folders` takes."""
    if split in ("is2re", "test"):  # LMDBs already
        return unpacked / ("data" if split == "is2re" else "test_data")
    output = str(work / PLACES[split])
    frames = f"{unpacked}_uncompressed"
    options = argparse.Namespace(
        ipdir=str(unpacked / unpacked.name), opdir=frames, data_path=frames, out_path=output,
        num_workers=num_workers, ref_energy=True, test_data=False, get_edges=False,
    )  # fmt: skip
    uncompress.main(options)
    preprocess_ef.main(options)
    download_data.verify_count(output, "s2ef", split)
    return work


@click.command(context_settings={"show_default": True})
@click.argument("task", type=click.Choice(["s2ef", "is2re"]))
@click.option(
    "--split", "splits", multiple=True, type=click.Choice(list(S2EF)),
    show_default=" and ".join(SPLITS), help="of s2ef; give it several times for several splits",
)  # fmt: skip
@click.option("--data-path", type=PATH, default="data", help="folder")
@click.option(
    "--num-workers", type=COUNT, default=lambda: len(os.sched_getaffinity(0)),
    show_default="as many as cores",
    help="processes, each of which writes a file of an s2ef split",
)  # fmt: skip
@click.option(
    "--keep", is_flag=True,
    help="keep the downloaded archive and what is unpacked of it, in DATA_PATH/oc20_SPLIT",
)  # fmt: skip
def command(
    task: str, splits: tuple[str, ...], data_path: Path, num_workers: int, keep: bool
) -> None:
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
    if task == "is2re" and splits:
        raise UserError("--split is of s2ef; is2re comes with all its splits, so leave it out")
    for split in ["is2re"] if task == "is2re" else splits or SPLITS:
        there = bool(find_folders(data_path, split))
        if not there:
            prepare(split, data_path, num_workers, keep)
        folders = find_folders(data_path, split)
        for folder in folders:
            tested = folder.name.startswith("test")  # hundreds of GB to read, for one prediction
            if not tested and not (folder / "metadata.npz").exists():
                PhysMolLmdbDataset({"src": str(folder)})  # a truncated file would kill a worker
                options = argparse.Namespace(data_path=str(folder), num_workers=num_workers)
                make_lmdb_sizes.make_lmdb_sizes(options)
        print(f"{split} is {'already ' * there}in {os.path.commonpath(folders)}", flush=True)
