"""Which packs become trials, and when, where several workers train some of the cells together."""

from collections.abc import Mapping, Sequence

from cluster.capacity import TrialResources
from orchestrator.running.admission import HEAD_START_SECONDS, Admission

ONE = TrialResources(cpus=1, gpus=0)
FOUR = TrialResources(cpus=1, gpus=1, workers=4)
TWO = TrialResources(cpus=1, gpus=1, workers=2)


def eight_gpus(together: Sequence[TrialResources]) -> bool:
    return sum(kind.workers for kind in together) <= 8


class Tune:
    """Asks for trials as Tune does, and knows each by its pack."""

    def __init__(self, held: Mapping[str, TrialResources]) -> None:
        self.admission = Admission(held, eight_gpus)
        self.trials: dict[str, str] = {}

    def offered(self) -> list[str]:
        """Return the packs that become trials now."""
        packs = []
        while (config := self.admission.suggest(trial := f"trial {len(self.trials)}")) is not None:
            packs.append(config["pack_id"])
            self.trials[packs[-1]] = trial
        return packs

    def ends(self, pack: str, *, error: bool = False) -> None:
        self.admission.on_trial_complete(self.trials[pack], error=error)


def test_packs_of_one_worker_are_trials_at_once_in_their_order(clock):
    assert Tune({"b": ONE, "a": ONE}).offered() == ["b", "a"]


def test_cells_of_several_workers_begin_first_as_many_as_fit_beside_each_other(clock):
    tune = Tune({"a": ONE, "4a": FOUR, "4b": FOUR, "4c": FOUR, "2a": TWO})
    assert tune.offered() == ["4a", "4b"]
    clock.now += HEAD_START_SECONDS - 1
    assert tune.offered() == []
    clock.now += 1
    assert tune.offered() == ["a"]
    assert tune.admission.under_way() == [FOUR, FOUR]
    tune.ends("4a")
    assert tune.offered() == ["4c"]
    tune.ends("4b", error=True)
    assert tune.offered() == ["2a"]


def test_others_wait_for_none_that_begins_later(clock):
    tune = Tune({"a": ONE, "e": ONE, "b": FOUR, "c": FOUR, "d": FOUR})
    tune.offered()
    clock.now += HEAD_START_SECONDS
    assert tune.admission.suggest("first") == {"pack_id": "a"}
    tune.ends("b")
    assert tune.offered() == ["d", "e"]


def test_one_that_fits_nowhere_yet_waits_alone_after_those_that_fit(clock):
    tune = Tune({"16": TrialResources(cpus=1, gpus=1, workers=16), "4": FOUR})
    assert tune.offered() == ["4"]
    assert tune.offered() == []
    tune.ends("4")
    assert tune.offered() == ["16"]  # else Tune would have nothing to wait for
