"""What one sees and hears of an alert: the picture that the model saw, with its axes, and the sound."""

from agent.alert import LogMelImage
from base_station.pages.frame import Visitor
from base_station.pages.parts import box, text
from base_station.picture import frequency_marks, time_marks
from base_station.store import AlertEvent


def evidence(visitor: Visitor, event: AlertEvent, image: LogMelImage | None, *, preload: str = "none") -> None:
    """Draw an alert's picture large, with its sound where one came; what is not there is said.

    Args:
        visitor: who looks.
        event: the alert.
        image: its picture's geometry, None if it has none.
        preload: of the sound, as the browser knows it: `none` or `auto`.
    """
    if image is None:
        text("p", visitor.say("There is no picture of this one."), "hint")
    else:
        spectrogram(visitor, event, image, "tall")
    if event.has_clip:
        sound(visitor, event, preload)


def sound(visitor: Visitor, event: AlertEvent, preload: str = "none") -> None:
    """Lay out the browser's own player for the sound of an alert."""
    player = box("audio", "clip", controls="", preload=preload, aria_label=visitor.say("Sound of the alert"))
    player.props["src"] = f"/v1/alerts/{event.alert_id}/clip.wav"


def spectrogram(visitor: Visitor, event: AlertEvent, image: LogMelImage, classes: str = "") -> None:
    """Draw the picture of an alert: seconds to the right, kilohertz up.

    Args:
        visitor: who looks.
        event: whose picture it is.
        image: its geometry; the browser fetches the picture itself.
        classes: `tall`, or nothing.
    """
    seconds = visitor.language.number(image.n_frames * image.hop_s, 1)
    with box("figure", f"spectrogram {classes}"):
        with box("div", "frequency", aria_hidden="true"):
            text("span", "kHz", "unit")
            for share, name in frequency_marks(image):
                text("span", name, "mark").style(f"bottom: {share:.2%}")
        picture = box("img", "picture")
        picture.props["src"] = f"/v1/alerts/{event.alert_id}/log-mel.png?revision={event.log_mel_revision}"
        picture.props["alt"] = visitor.say("Spectrogram of the {seconds} s that the model heard", seconds=seconds)
        with box("div", "seconds", aria_hidden="true"):
            for share, name in time_marks(image):
                text("span", name, "mark").style(f"left: {share:.2%}")
            text("span", "s", "unit")
