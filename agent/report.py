"""From detections to alerts: what the decider found, with everything that the station needs to know of it."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.alert import Alert, Battery, LogMelImage, finite
from agent.alert import Clock as ClockReading
from agent.config import DeviceConfig
from agent.decide import Detection
from agent.listen import Window
from agent.manifest import Manifest


@dataclass(slots=True)
class Reporter:
    """Makes one alert of each reported event: revision 0 when it opens, revision 1 when it closes."""

    device: DeviceConfig
    manifest: Manifest
    now: Callable[[], ClockReading]
    """The device's clocks, read once for each alert."""
    battery: Callable[[], Battery | None] = lambda: None
    drill: bool = False
    _open: dict[str, str] = field(init=False, default_factory=dict[str, str])
    """Alert id of the open event of each label."""

    def alerts(self, window: Window) -> list[Alert]:
        """Return the alerts that one window gives rise to."""
        return [self._alert(detection, window) for detection in window.detections if detection.alert]

    def closings(self, detections: tuple[Detection, ...], level_dbfs: float) -> list[Alert]:
        """Return the closings of events that were open when the audio ended."""
        return [self._build(detection, level_dbfs, None) for detection in detections if detection.alert]

    def _alert(self, detection: Detection, window: Window) -> Alert:
        picture = None
        if detection.opens and window.frames is not None:
            features = self.manifest.features
            picture = LogMelImage.of(
                window.frames,
                hop_s=features.hop / features.sample_rate,
                mel_min_hz=features.mel_min_hz,
                mel_max_hz=features.mel_max_hz,
            )
        return self._build(detection, window.level_dbfs, picture)

    def _build(self, detection: Detection, level_dbfs: float, picture: LogMelImage | None) -> Alert:
        if detection.opens:
            alert_id = self._open[detection.label] = str(uuid.uuid4())
        else:
            alert_id = self._open.pop(detection.label)
        rate = self.manifest.features.sample_rate
        return Alert(
            alert_id=alert_id,
            revision=0 if detection.opens else 1,
            state="open" if detection.opens else "closed",
            device_id=self.device.id,
            label=detection.label,
            score=round(detection.score, 4),
            onset_s=detection.onset / rate,
            raised_s=detection.raised / rate,
            clock=self.now(),
            model_digest=self.manifest.digest,
            level_dbfs=round(finite(level_dbfs), 1),
            drill=self.drill,
            battery=self.battery(),
            position=self.device.position,
            log_mel=picture,
        )
