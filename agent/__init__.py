"""The device: streams the microphone, hears chainsaws and engines, tells the base station."""

VERSION = "0.1.0"
