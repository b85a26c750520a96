"""What does here what options of other programs do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile

_IMAGES = (
    "name the images as in mireg register FIXED MOVING, or mireg apply MOVING "
    "--like FIXED -t T"
)
_ALWAYS = "leave it out: every orientation is tried"

#: By the option's name without dashes; mireg guide coming-from has more.
FOREIGN: Mapping[str, str] = {
    **dict.fromkeys(("in", "ref", "mov", "base", "source", "fixed", "moving"), _IMAGES),
    "out": "give -o",
    "prefix": "give -o",
    "omat": "give --transform-format fsl; -o says where",
    "1Dmatrix_save": "give --transform-format afni; -o says where",
    "reg": "give --transform-format lta; -o says where",
    "dof": "leave it out: it is always 6",
    "cost": "give --metric nmi or --metric mi",
    "interp": "give --interpolation linear, nearest, lanczos or cubic",
    "nosearch": "give --init header",
    **dict.fromkeys(("searchrx", "searchry", "searchrz"), _ALWAYS),
    "usesqform": "leave it out: that is always done",
    "refweight": "give --fixed-mask",
    "inweight": "give --moving-mask",
    "applyxfm": "use mireg apply MOVING --like FIXED -t T",
    "applyisoxfm": "use mireg apply with --output-grid isotropic MM",
    "concat": "give --then T",
    "refvol": "give --reference N",
    "meanvol": "give --reference mean",
    "mats": "give --transform-format fsl",
    "plots": "give --transform-format par",
    "random-seed": "leave it out: the answer is always the same",
}


def here(words: Iterable[str], own: Iterable[str]) -> tuple[str, str] | None:
    """Find the first option of another program, and what does the same here.

    An option whose name is one of the `own` ones is left: -init is nearly --init.
    """
    own = set(own)
    for word in takewhile(lambda word: word != "--", words):
        name = word.partition("=")[0]
        bare = name.lstrip("-")
        if name != bare in FOREIGN and not {name, f"--{bare}"} & own:
            return name, FOREIGN[bare]
    return None
