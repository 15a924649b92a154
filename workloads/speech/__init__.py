"""Speech: one speaker's recorded sentences, and phones to be found in them.

`voice` reads recordings and phone labels; `features` makes log-mel features of sound; `corpus` has
both of all utterances, cached, and the split. On them stand the workloads: `frames` (which phone
is spoken now) and `ctc` (which phones are spoken in this stretch).
"""
