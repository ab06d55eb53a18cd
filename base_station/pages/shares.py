"""How often alerts were right, drawn: the interval as a band, the share as a line in it."""

from base_station.pages.frame import Visitor
from base_station.pages.parts import box, text
from base_station.precision import Precision
from base_station.words import label_name


def precision_bar(visitor: Visitor, row: Precision) -> None:
    """Draw how often alerts of a label were right, with the counts behind it."""
    language, say = visitor.language, visitor.say
    share = row.share if row.share is not None else 0.5
    with box("div", "precision"):
        with box("p", "line"):
            text("strong", say(label_name(row.key)))
            told = language.percent(share) if row.share is not None else "–"
            text("span", f"{told} ({language.percent(row.low)} – {language.percent(row.high)})", "num")
        with box("div", "band", aria_hidden="true"):
            box("span", "within").style(f"left: {row.low:.1%}; width: {row.high - row.low:.1%}")
            if row.share is not None:
                box("span", "share").style(f"left: {share:.1%}")
        counts = say(
            "{right} right, {wrong} wrong, {unsure} unsure", right=row.right, wrong=row.wrong, unsure=row.unsure
        )
        text("p", counts, "hint num")
