"""Which of several processes this one is."""

from __future__ import annotations

import pytest

from famcli.inference.ranks import Rank
from famcli_models.errors import ConfigError

SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}
STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, Rank()),
        ({"RANK": "1", "WORLD_SIZE": "4"}, Rank(1, 4, "torchrun")),
        ({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"}, Rank(3, 4, "mpirun")),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, Rank(0, 2, "mpirun")),
        (SLURM | STEP, Rank(2, 4, "srun")),
        (SLURM, Rank()),  # the shell of an sbatch script
        (SLURM | STEP | {"SLURM_STEP_ID": "4294967290"}, Rank()),  # salloc's interactive step
        (SLURM | STEP | {"RANK": "5", "WORLD_SIZE": "8"}, Rank(5, 8, "torchrun")),  # torchrun below srun
        (SLURM | STEP | {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Rank(1, 2, "mpirun")),
        ({"RANK": "", "WORLD_SIZE": ""}, Rank()),
    ],
)
def test_launchers(environ: dict[str, str], rank: Rank) -> None:
    """Each launcher's variables are read, the innermost launcher's first; a shell of Slurm is one process."""
    assert Rank.from_environment(environ) == rank


@pytest.mark.parametrize(
    "environ",
    [
        {"RANK": "4", "WORLD_SIZE": "4"},
        {"RANK": "-1", "WORLD_SIZE": "4"},
        {"RANK": "one", "WORLD_SIZE": "4"},
        {"RANK": "1"},
        {"WORLD_SIZE": "4"},
        {"RANK": "0", "WORLD_SIZE": "0"},
    ],
)
def test_environments_that_contradict_themselves(environ: dict[str, str]) -> None:
    """Half a launcher, or a rank that is not below the number of ranks, is refused by the names of the variables."""
    with pytest.raises(ConfigError, match="RANK and WORLD_SIZE are .* unset both"):
        Rank.from_environment(environ)


def test_shards_by_hand() -> None:
    """`I/N` is a shard that nobody waits for."""
    assert Rank.from_text("1/4") == Rank(1, 4)
    assert (str(Rank(1, 4)), str(Rank(1, 4, "srun"))) == ("shard 1/4", "rank 1 of 4")


@pytest.mark.parametrize("text", ["4/4", "1", "1/", "/4", "1/4/8", "-1/4", "a/b", "", "1/0", "²/4"])
def test_texts_that_are_no_shard(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ConfigError, match="is no shard; write it as I/N"):
        Rank.from_text(text)


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(("total", "count"), [(10, 4), (3, 4), (0, 2), (8, 8), (7, 1), (1_000_003, 64)])
def test_shares(total: int, count: int, batch: int) -> None:
    """Shares are blocks of whole batches, in order and without gaps, and differ by one batch at most."""
    shares = [Rank(i, count).share(total, batch) for i in range(count)]
    assert [s.start for s in shares] == [0, *(s.stop for s in shares[:-1])]
    assert shares[-1].stop == total
    assert all(s.start % batch == 0 or s.start == total for s in shares)
    sizes = {s.stop - s.start for s in shares}
    assert max(sizes) - min(sizes) <= batch
