"""How programs that share a block hand their partial sums over, read from the code that was compiled: ``kernels/split.py``.

Each stores its own; a barrier of the block; an atomic that releases them and acquires those of the others; a second barrier; and
loads past the first-level cache, of every partial sum that was stored.
"""

import re
from collections.abc import Iterable

_PTX = re.compile(r"^\s*(?:@!?%\w+\s+)?((?:st\.global|ld\.global|atom|red|bar|barrier)\b\S*)", re.MULTILINE)
_SASS = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?((?:STG|LDG|ATOMG?|REDG?|BAR|MEMBAR|CCTL)\b[\w.]*)", re.MULTILINE)
_ATOMIC = re.compile(r"(?:atom|red)\.")
_ACQ_REL = re.compile(r"atom\.(?:global\.gpu\.acq_rel|acq_rel\.gpu\.global)\.add\.")


def handover(ptx: str, sass: str, splits: int) -> list[str]:
    """What is missing of it; both texts in their own order, the program's and the processor's."""
    return [*_in_ptx(_PTX.findall(ptx), splits), *_in_sass(_SASS.findall(sass))]


def _in_ptx(instructions: list[str], splits: int) -> list[str]:
    atomics = [i for i, each in enumerate(instructions) if _ATOMIC.match(each)]
    if len(atomics) != 1:
        return [f"{len(atomics)} atomics"]
    before, atomic, after = instructions[: atomics[0]], instructions[atomics[0]], instructions[atomics[0] + 1 :]
    loads = [each for each in after if each.startswith("ld")]
    shared = [each for each in loads if ".cg" in each]
    found = {
        "no barrier after the stores": not before or not before[-1].startswith("bar"),
        "no acquire and release": not _ACQ_REL.match(atomic),
        "no barrier before the loads": not after or not after[0].startswith("bar"),
        "loads that may be stale": _elements(shared) != splits * _elements(each for each in before if each.startswith("st")),
        "loads as of constants": any(".nc" in each for each in loads),
    }
    return [fault for fault, there in found.items() if there]


def _in_sass(instructions: list[str]) -> list[str]:
    names = [each for each in instructions if each not in ("MEMBAR.ALL.CTA", "MEMBAR.SC.CTA")]
    at = next((i for i, each in enumerate(names) if each.startswith("ATOMG")), None)
    if at is None:
        return ["no atomic in the machine code"]
    around = " ".join(names[max(0, at - 3) : at + 20])
    order = r"STG\S* BAR\S* MEMBAR\.\w+\.GPU ATOMG\S*\.STRONG\.GPU CCTL\.IVALL BAR\S*(?: LDG\S*)*? LDG\S*\.STRONG\.GPU"
    return [] if re.search(order, around) else [f"the machine code has another order: {around}"]


def _elements(instructions: Iterable[str]) -> int:
    """That a thread moves."""
    widths = (re.search(r"\.v(\d)", each) for each in instructions)
    return sum(int(width[1]) if width else 1 for width in widths)
