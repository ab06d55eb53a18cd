"""What the model saw, with its axes: seconds to the right, kilohertz up."""

from agent.alert import LogMelImage
from base_station.pages.parts import box, text
from base_station.picture import frequency_marks, time_marks
from base_station.store import AlertEvent


def spectrogram(event: AlertEvent, image: LogMelImage, alt: str, classes: str = "") -> None:
    """Draw the picture of an alert.

    Args:
        event: whose picture it is.
        image: its geometry; the browser fetches the picture itself.
        alt: what it is, for whoever cannot see it.
        classes: `tall`, or nothing.
    """
    with box("figure", f"spectrogram {classes}"):
        with box("div", "frequency", aria_hidden="true"):
            text("span", "kHz", "unit")
            for share, name in frequency_marks(image):
                text("span", name, "mark").style(f"bottom: {share:.2%}")
        picture = box("img", "picture")
        picture.props["src"] = f"/v1/alerts/{event.alert_id}/log-mel.png?revision={event.log_mel_revision}"
        picture.props["alt"] = alt
        with box("div", "seconds", aria_hidden="true"):
            for share, name in time_marks(image):
                text("span", name, "mark").style(f"left: {share:.2%}")
            text("span", "s", "unit")
