# ruff: noqa: D102  (overrides stay bare: their contract stands on `Workload`)
"""Which phones are spoken in a stretch of speech? An LSTM trained by CTC, told no times.

Connectionist temporal classification: Graves et al. 2006, doi:10.1145/1143844.1143891; it is also
what Deep Speech 2, the speech model of Hestness et al. 2017, is trained by. An example is what is
spoken between two pauses of an utterance, because a second or two trains in reasonable time where
ten do not; the group of an example is its utterance.

Inputs are padded with zeros at the end, which an LSTM that hears forward reaches when all is said.
Targets are (2 + labels): how many steps of the input are speech, how many labels there are, and
the labels, padded with zeros. The loss needs both numbers, and sees nothing of the inputs.

The same cell gives the same bytes on CPUs. On a GPU it may not: torch's gradient of this loss adds
in whatever order its threads come (torch.use_deterministic_algorithms names it).
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from workloads.axis import Axis, AxisKind, AxisValues
from workloads.base import Data, Split, Workload
from workloads.speech.corpus import Corpus, Spoken, corpus, corpus_fingerprint, split_utterances
from workloads.speech.edit_distance import edit_distances
from workloads.speech.features import BANDS, frame_centres
from workloads.speech.voice import PAUSE, PHONES, stretches

__all__ = ["BLANK", "SpeechCtcLstm", "greedy_labels"]

BLANK = PAUSE
"""CTC's class for no label; stretches have no pauses."""

STACKED = 4
"""Frames that make one step: 40 ms, as in Deep Speech 2 and Sak et al. 2015, arXiv:1507.06947, who
stack and skip frames because recurrent steps are dear."""

STEPS = 60
"""Steps of an input, 2.4 s: longer stretches, 16 % of 2,841, are left out."""

LABELS = 48
"""Labels of a target; the longest stretch of `STEPS` has fewer."""

RECIPE = f"ctc 1: stretches of at most {STEPS} × {STACKED} frames and {LABELS} labels"


class SpeechCtcLstm(Workload):
    """Phones of a stretch by a single LSTM, which hears forward, and CTC."""

    name = "speech_ctc_lstm"
    version = 1
    chance_error = 0.86
    """Of "i a oo aa ay a" for every stretch, made by adding the label that helps most, until none
    does; no label at all would be wrong by 1."""
    stackable = False
    """torch's own LSTM is one operation, and one that can be stacked is thousands: of a step on 8
    stretches it took 9 to 39 ms a cell (widths 32 to 128), torch's own 4 to 9, on one CPU."""
    model_size = Axis(
        name="model_size",
        kind=AxisKind.INTEGER,
        meaning="Width of the LSTM's hidden state.",
        minimum=1,
        maximum=2048,
    )

    def data(self, axes: AxisValues) -> Data:
        voice = corpus()
        return Data(*(_stretches(voice, own) for own in split_utterances(len(voice))))

    def data_fingerprint(self, axes: AxisValues) -> str:
        return corpus_fingerprint(RECIPE)

    def model(self, size: int) -> nn.Module:
        return _Lstm(size)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (n,) nats per label: −ln of the probability of all labels, by their number."""
        steps, labels, wanted = targets[:, 0], targets[:, 1], targets[:, 2:]
        nats = functional.ctc_loss(
            outputs.log_softmax(dim=2).transpose(0, 1),
            wanted,
            steps,
            labels,
            blank=BLANK,
            reduction="none",
        )
        return nats / labels

    def error(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return (n,) edit distances of the greedily decoded labels by the number of true ones.

        At most 1 each: as many labels too many are no worse than none.
        """
        steps, labels, wanted = targets[:, 0], targets[:, 1], targets[:, 2:]
        decoded, lengths = greedy_labels(outputs, steps)
        distances = edit_distances(decoded, lengths, wanted, labels)
        return (distances / labels).clamp(max=1.0)


class _Lstm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(STACKED * BANDS, size, batch_first=True)
        self.readout = nn.Linear(size, len(PHONES))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden, _ = self.lstm(inputs)
        scores: Tensor = self.readout(hidden)
        return scores


def greedy_labels(outputs: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the likeliest class of each step, repetitions and blanks taken out.

    `outputs`: (n, S, classes), of which the first of (n,) `steps` count. Returned are (n, S)
    labels, in front, and how many they are, (n,).
    """
    best = outputs.argmax(dim=2)
    before = functional.pad(best[:, :-1], (1, 0), value=BLANK)
    counts = torch.arange(best.shape[1], device=best.device) < steps[:, None]
    kept = (best != BLANK) & (best != before) & counts
    order = torch.argsort((~kept).int(), dim=1, stable=True)
    return best.gather(1, order), kept.sum(dim=1)


def _stretches(voice: Corpus, utterances: list[int]) -> Split:
    """Return the stretches of some utterances as an LSTM with CTC can take them."""
    of_utterances = [list(_stretches_of(voice[number])) for number in utterances]
    some = [own for own in of_utterances if own]
    examples = [example for own in some for example in own]
    return Split(
        torch.from_numpy(np.stack([heard for heard, _ in examples])),
        torch.from_numpy(np.stack([wanted for _, wanted in examples])),
        torch.arange(len(some)).repeat_interleave(torch.tensor([len(own) for own in some])),
    )


def _stretches_of(one: Spoken) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield the (steps, features) and the target of each stretch that fits."""
    centres = frame_centres(len(one.features))
    for begin, end, phones in stretches(one.ends, one.phones):
        frames = one.features[(begin <= centres) & (centres < end)]
        steps = -(-len(frames) // STACKED)
        # CTC needs a step for each label, and one between two that are equal.
        needed = len(phones) + np.count_nonzero(phones[1:] == phones[:-1])
        if not needed <= steps <= STEPS or len(phones) > LABELS:
            continue
        heard = np.zeros((STEPS * STACKED, BANDS), np.float32)
        heard[: len(frames)] = frames
        target = np.zeros(2 + LABELS, np.int64)
        target[:2] = steps, len(phones)
        target[2 : 2 + len(phones)] = phones
        yield heard.reshape(STEPS, STACKED * BANDS), target
