"""Every knob: name, unit, default, and why this default.  Frozen once loaded.

``schema`` declares the knobs, ``loading`` fills them from defaults, file, environment and flags.  Nothing
here acts on a setting, and nothing outside reads the environment or the file for one.
"""

from probe.settings.errors import SettingsError
from probe.settings.idle import set_in_vain
from probe.settings.kinds import format_hold, parse_hold
from probe.settings.knobs import Knob, knobs, leaves, spelled, value_at
from probe.settings.loading import Loaded, load
from probe.settings.schema import (
    CanarySettings,
    GpuSettings,
    HealSettings,
    LogFormat,
    LogLevel,
    LogSettings,
    ModelPlacement,
    ModelsSettings,
    PlacementSettings,
    Policy,
    RestartSettings,
    Settings,
    TlsSettings,
    TritonSettings,
)

__all__ = [
    "CanarySettings",
    "GpuSettings",
    "HealSettings",
    "Knob",
    "Loaded",
    "LogFormat",
    "LogLevel",
    "LogSettings",
    "ModelPlacement",
    "ModelsSettings",
    "PlacementSettings",
    "Policy",
    "RestartSettings",
    "Settings",
    "SettingsError",
    "TlsSettings",
    "TritonSettings",
    "format_hold",
    "knobs",
    "leaves",
    "load",
    "parse_hold",
    "set_in_vain",
    "spelled",
    "value_at",
]
