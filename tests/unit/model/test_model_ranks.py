"""Ranks: a loss on gathered rows has the gradient of the whole batch, and the first rank alone writes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from threads import Threads
from torch import Tensor, nn

from model import ranks
from model.errors import RecipeError
from model.items import ItemArchive
from model.losses import info_nce
from model.training.pipeline import Folders, train_artifact
from model.training.recipe import load_recipe
from model.training.run import claim_run

ROWS = 13  # of which no number of ranks has equal parts
SIDES = torch.randn(2, ROWS, 6, generator=torch.Generator().manual_seed(0))


class Toy(nn.Module):
    """A layer before the gathering, one behind it, and a vector that no row passes."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.behind = nn.Linear(6, 5), nn.Linear(5, 4)
        self.shift = nn.Parameter(torch.ones(6))

    def loss(self, wrap: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> Tensor:
        read = wrap(lambda rows, absent: self.before(rows).tanh())
        image, text = (self.behind(read(side + self.shift, None)) for side in SIDES)
        return info_nce(image, text, 0.1) + image.square().mean()


def toy() -> Toy:
    torch.manual_seed(3)
    return Toy()


def gradients(model: Toy, wrap: Callable[[Callable[..., Tensor]], Callable[..., Tensor]]) -> list[Tensor]:
    model.loss(wrap).backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    ranks.average(found)
    return found


def as_it_is(read: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return read


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("wrap", [ranks.shared, as_it_is])
def test_every_rank_has_the_gradient_of_the_whole_batch(
    count: int, wrap: Callable[[Callable[..., Tensor]], Callable[..., Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is shared, and of what each rank does for itself."""
    expected = gradients(toy(), as_it_is)
    models = [toy() for _ in range(count)]
    found = Threads(count, monkeypatch).run(lambda rank: gradients(models[rank], wrap))
    for own in found:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(own, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[-1], strict=True))


def test_each_rank_reads_its_part_and_has_the_rows_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    read: dict[int, list[float]] = {}

    def gathered(rank: int) -> Tensor:
        def note(rows: Tensor) -> Tensor:
            read[rank] = rows.tolist()
            return 2 * rows

        return ranks.shared(note)(torch.arange(ROWS, dtype=torch.float32))

    found = Threads(3, monkeypatch).run(gathered)
    assert [row for rank in range(3) for row in read[rank]] == list(range(ROWS))
    assert all(whole.tolist() == [2 * row for row in range(ROWS)] for whole in found)


def test_few_rows_are_read_by_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.ones(2 * ranks.FEW - 1)
    read = Threads(2, monkeypatch).run(lambda rank: ranks.shared(lambda own: own + len(own))(rows))
    assert all(torch.equal(own, rows + len(rows)) for own in read)


def test_a_process_alone_reads_everything_itself() -> None:
    given = torch.ones(40, 2)
    assert ranks.shared(lambda rows: rows)(given) is given
    assert (ranks.size(), ranks.rank(), ranks.differ(3)) == (1, 0, False)
    with ranks.joined("auto") as device:
        assert device == "auto"


def test_a_batch_that_the_ranks_cannot_share_is_refused_before_anything_is_read(
    archive: ItemArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "size", lambda: 3)
    folders = Folders(tmp_path / "runs", tmp_path / "artifacts", tmp_path / "cache")
    with pytest.raises(RecipeError, match=r"optimiser\.batch: expected a multiple of 3, .*, found 256"):
        train_artifact(load_recipe("baseline"), archive, "odd", folders, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_the_first_rank_alone_writes_what_a_run_is_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe("baseline")
    with monkeypatch.context() as patch:
        patch.setattr(ranks, "rank", lambda: 1)
        claim_run(recipe, tmp_path, {})
        assert list(tmp_path.iterdir()) == []
    claim_run(recipe, tmp_path, {})
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    with pytest.raises(RecipeError, match="of another run"):
        claim_run(recipe, tmp_path, {"data": "other"})


def test_ranks_that_see_several_checkpoints_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest number and the smallest are asked for."""
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks.dist, "get_backend", lambda: "gloo")
    seen = [4, 4]
    monkeypatch.setattr(
        ranks.dist,
        "all_reduce",
        lambda ends, how: ends.copy_(torch.tensor([max(seen), -min(seen)])),
    )
    assert not ranks.differ(4)
    seen[1] = 0
    assert ranks.differ(4)
