"""How often each kind of something ended how, as Markdown."""

from collections import Counter
from collections.abc import Sequence


def table(counts: Counter, verdicts: Sequence[str]) -> str:
    """A row for each kind, and one for their sum; `counts` is by kind and verdict."""
    kinds = list(dict.fromkeys(kind for kind, _ in counts))
    lines = [f"| | tried | {' | '.join(verdicts)} |", "| --- " * (len(verdicts) + 2) + "|"]
    for kind in [*kinds, "all"]:
        of_kind = [
            sum(counts[k, v] for k in (kinds if kind == "all" else [kind])) for v in verdicts
        ]
        lines.append(f"| {kind} | " + " | ".join(f"{n:,}" for n in [sum(of_kind), *of_kind]) + " |")
    return "\n".join(lines)
