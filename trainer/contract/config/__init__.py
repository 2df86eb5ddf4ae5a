"""The one configuration tree of a run: typed, frozen, unknown keys refused, a help line on every field.

It is stored as TOML. Layers are put together by `trainer.contract.compose`; nothing else builds a `RunConfig`. Each
file here holds the sections of one subject.
"""

from typing import Any

from trainer.contract.config.adapter import AdapterSection
from trainer.contract.config.concept import Concept, ConceptSection
from trainer.contract.config.dataset import MASK_FLOOR, DatasetSection
from trainer.contract.config.engine import EngineSection
from trainer.contract.config.learning import ObjectiveSection, OptimizerSection, ScheduleSection, TrainingSection
from trainer.contract.config.model import ModelSection, NumberType, Prediction
from trainer.contract.config.output import ExportSection, SamplingSection, TrackingSection
from trainer.contract.config.section import (
    AUTO_OR_EVERY,
    PERCENT_OR_STEPS,
    SPELT,
    STEPS_OR_END,
    AutoOrEvery,
    Every,
    Section,
    Switch,
    Until,
    interval,
)
from trainer.contract.config.validation import LEAST_PICTURES, ValidationSection

__all__ = [
    "AUTO_OR_EVERY",
    "LEAST_PICTURES",
    "MASK_FLOOR",
    "PERCENT_OR_STEPS",
    "SPELT",
    "STEPS_OR_END",
    "AdapterSection",
    "AutoOrEvery",
    "Concept",
    "ConceptSection",
    "DatasetSection",
    "EngineSection",
    "Every",
    "ExportSection",
    "ModelSection",
    "NumberType",
    "ObjectiveSection",
    "OptimizerSection",
    "Prediction",
    "RunConfig",
    "SamplingSection",
    "ScheduleSection",
    "Section",
    "Switch",
    "TrackingSection",
    "TrainingSection",
    "Until",
    "ValidationSection",
    "interval",
]


class RunConfig(Section):
    """Everything a run depends on. `config.toml` in a run folder holds exactly this, with no value left out."""

    model: ModelSection = ModelSection()
    dataset: DatasetSection
    adapter: AdapterSection = AdapterSection()
    optimizer: OptimizerSection = OptimizerSection()
    schedule: ScheduleSection = ScheduleSection()
    objective: ObjectiveSection = ObjectiveSection()
    training: TrainingSection
    engine: EngineSection = EngineSection()
    sampling: SamplingSection = SamplingSection()
    validation: ValidationSection = ValidationSection()
    export: ExportSection = ExportSection()
    tracking: TrackingSection = TrackingSection()

    def value(self, name: str) -> Any:
        """Read one setting by `section.key`."""
        section, _, key = name.partition(".")
        return getattr(getattr(self, section), key)
