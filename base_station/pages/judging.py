"""The six things that a listener may say he heard, what that says of the alert, and how it is kept."""

from nicegui import ui
from starlette.concurrency import run_in_threadpool

from agent.errors import StorageError
from base_station.pages.frame import Visitor
from base_station.pages.language import Language, mark
from base_station.precision import FALSE, TRUE
from base_station.verdicts import Verdict, Verdicts

HEARD = {
    "chainsaw": mark("Chainsaw"),
    "engine": mark("Engine"),
    "machine": mark("Other machine"),
    "animal": mark("Animal"),
    "rain": mark("Rain"),
    "nothing": mark("Nothing"),
}
"""What was heard, as it is kept -> as it is written; in the order of the keys 1 to 6."""


def verdict_on(label: str, heard: str) -> str:
    """Return whether an alert of a label was right, when this was heard."""
    return TRUE if heard == label else FALSE


def heard_name(language: Language, verdict: Verdict) -> str:
    """Return what somebody heard, in the reader's words."""
    return language.say(HEARD.get(verdict.heard, verdict.heard or verdict.verdict))


async def keep_verdict(
    visitor: Visitor, alert_id: str, verdict: str, heard: str, *, chosen: str, note: str = ""
) -> bool:
    """Keep what somebody said of an alert; return whether it is on disk, and tell him where it is not."""
    said = Verdict(
        alert_id=alert_id,
        verdict=verdict,
        heard=heard,
        chosen=chosen,
        judge=visitor.name,
        note=note,
        at_utc=visitor.now(),
    )
    try:
        kept = await run_in_threadpool(Verdicts(visitor.site.store).add, said)
    except StorageError:
        kept = False
    if not kept:
        ui.notify(visitor.say("This verdict was not kept; try again."), type="negative")
    return kept
