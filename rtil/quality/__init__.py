"""How good a prior's samples are, in numbers: distances between its pictures and real ones, branch by branch.

A GAN's losses tell nothing of it. Pictures become features (:mod:`.features`), and the features of samples are compared
with those of training pictures (:mod:`.distances`); :mod:`.measure` does it for every branch of RTIL, for real pictures
that the reference does not hold (the floor) and for the linear prior (for scale).
"""
